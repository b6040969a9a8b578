"""Traces: where an event went, how long each step took, what was tried again; by OpenTelemetry's conventions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Self

from squall.core.delivery import Observer
from squall.core.errors import WiringError
from squall.core.identity import seeded_ids, system_id
from squall.core.middleware import Middleware, guard
from squall.core.options import Options as BaseOptions
from squall.core.plugin import Context, Plugin, hookimpl
from squall.core.scrub import known_secrets, scrubber
from squall.core.store import EventStore
from squall.core.subscription import Subscription
from squall.plugins.tracing.exporting import Exporter, ExporterCounts, Pipeline
from squall.plugins.tracing.options import TracingOptions
from squall.plugins.tracing.spans import SpanMaker
from squall.plugins.tracing.store import TracedStore
from squall.plugins.tracing.tracer import Tracer

IN_RUN = "spans"


class TracingPlugin(Plugin):
    """Notes a few words while an event passes, and makes spans of them afterwards; whether spans arrive is of no
    consequence for events."""

    summary: ClassVar[str] = "observer, middleware: traces of sampled, failed and slow events (squall[tracing])"
    Options = TracingOptions
    options: TracingOptions

    def __init__(self, options: BaseOptions | None = None, **values: object) -> None:
        super().__init__(options, **values)
        self._ctx: Context | None = None
        self._tracer: Tracer | None = None
        self._pipeline: Pipeline | None = None

    def in_run(self, folder: Path) -> Self:
        """Spans go into the run's folder too."""
        return type(self)(self.options.model_copy(update={"folder": str(folder / IN_RUN)}))

    @property
    def records_dropped(self) -> int:
        """What was noted since the router's start and found no place to wait in."""
        return self._tracer.records_dropped if self._tracer is not None else 0

    @property
    def counts(self) -> dict[str, ExporterCounts]:
        """What became of spans since the router's start, by exporter."""
        return {lane.exporter.name: lane.counts for lane in (self._pipeline.lanes if self._pipeline else ())}

    @hookimpl
    def squall_publish_middleware(self, ctx: Context) -> Middleware:
        return guard(self._of(ctx).guard(), stage="observe")

    @hookimpl
    def squall_deliver_middleware(self, ctx: Context, subscription: Subscription) -> Middleware:
        return guard(self._of(ctx).deliveries(subscription).guard(), stage="observe")

    @hookimpl
    def squall_store_wrapper(self, ctx: Context, store: EventStore) -> EventStore:
        return TracedStore(store, self._of(ctx))

    @hookimpl
    def squall_observer(self, ctx: Context) -> Observer:
        return self._of(ctx)

    @hookimpl
    async def squall_startup(self, ctx: Context) -> None:
        tracer = self._of(ctx)
        scrub = scrubber(known_secrets(os.environ, ()))
        maker = SpanMaker(tracer.new_span, scrub)
        self._pipeline = Pipeline(tracer, maker, list(self._exporters()), ctx.clock, ctx.logger)

    @hookimpl
    async def squall_shutdown(self, ctx: Context) -> None:
        if self._pipeline is not None:
            await self._pipeline.stop(self.options.timeout)

    @hookimpl
    def squall_metrics_text(self) -> str:
        counted = {
            "exported": "Spans that arrived.",
            "dropped": "Spans that found no place, or did not arrive.",
        }
        lines = [
            "# HELP squall_tracing_records_dropped_total Notes that found no place.",
            "# TYPE squall_tracing_records_dropped_total counter",
            f"squall_tracing_records_dropped_total {self.records_dropped}",
        ]
        for name, about in counted.items():
            lines.append(f"# HELP squall_tracing_spans_{name}_total {about}")
            lines.append(f"# TYPE squall_tracing_spans_{name}_total counter")
            lines += [
                f'squall_tracing_spans_{name}_total{{exporter="{exporter}"}} {getattr(one, name)}'
                for exporter, one in self.counts.items()
            ]
        return "\n".join(lines) + "\n"

    def _of(self, ctx: Context) -> Tracer:
        """The tracer of the router that starts with this context."""
        if self._tracer is None or self._ctx is not ctx:
            new_id = seeded_ids(ctx.random("tracing")) if ctx.clock.virtual else system_id
            self._ctx, self._tracer = ctx, Tracer(self.options, ctx.clock, new_id)
        return self._tracer

    def _exporters(self) -> Iterator[Exporter]:
        """Raises WiringError where the extra is missing, or the file cannot be opened."""
        options = self.options
        if options.folder is not None:
            from squall.plugins.tracing.folder import FolderExporter  # pyarrow is heavy

            nothing = ExporterCounts(0, 0, 0, 0)
            yield FolderExporter(
                Path(options.folder), lambda: self.records_dropped, lambda: self.counts.get("folder", nothing)
            )
        if options.otlp is None and options.file is None:
            return
        try:  # only here, so that the plugin can be listed, and traces a run, without the extra
            from squall.plugins.tracing import otlp
        except ModuleNotFoundError as error:
            raise WiringError(f"plugin tracing needs {error.name}: pip install 'squall[tracing]'") from error
        if options.otlp is not None:
            yield otlp.over_http(options.otlp, options.service, options.timeout)
        if options.file is not None:
            try:
                yield otlp.to_file(Path(options.file), options.service)
            except OSError as error:
                raise WiringError(
                    f"tracing.file: {options.file} cannot be written ({error.strerror or error})"
                ) from error
