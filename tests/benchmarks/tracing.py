"""What tracing costs: off, at 1 %, at 100 %, and OpenTelemetry's SDK making the same spans inline.

The time ends when every span has left: squall's are in Parquet files then, the SDK's at an exporter that discards them.
Nothing may be dropped. Each event has four spans: publish, store, process, settle.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from itertools import repeat
from pathlib import Path

from opentelemetry import trace
from opentelemetry.propagate import extract, inject
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanKind
from tests.benchmarks.load import TYPE, Case, Tally, flood, payload
from tests.benchmarks.rounds import Sample, Scale, alternate
from tests.benchmarks.table import Bar, Row, compare

from squall import Context, Event, EventRouter, Plugin, Subscription, around, hookimpl
from squall.core.middleware import Middleware, Next
from squall.core.wiring import default_plugins
from squall.plugins.tracing import TracingPlugin
from squall.plugins.tracing.options import TracingOptions

GROUP = "tracing"
SHARES = {"off": None, "at 1 %": 0.01, "at 100 %": 1.0}
EVENTS = {"off": 500_000, "at 1 %": 500_000, "at 100 %": 60_000, "SDK": 15_000}
MAX_WAITING = 1_000_000
SPANS = 4


class Discarding(SpanExporter):
    """Counts spans, and forgets them."""

    def __init__(self) -> None:
        self.count = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.count += len(spans)
        return SpanExportResult.SUCCESS


class InlinePlugin(Plugin):
    """Makes spans by the SDK while events pass, each with the attributes that its conventions require."""

    def __init__(self) -> None:
        super().__init__()
        self.exporter = Discarding()
        self.provider = TracerProvider()
        self.provider.add_span_processor(BatchSpanProcessor(self.exporter, max_queue_size=MAX_WAITING))
        self._tracer = self.provider.get_tracer("squall.bench")

    @hookimpl
    def squall_publish_middleware(self, ctx: Context) -> Middleware:
        start = self._tracer.start_as_current_span

        async def publish(event: Event, following: Next) -> None:
            about = _about(event, "publish")
            with start(f"publish {event.type}", kind=SpanKind.PRODUCER, attributes=about):
                inject(event.metadata)
                with start(f"store {event.type}", attributes=_about(event, "store")):
                    await following(event)

        return around(publish, stage="observe")

    @hookimpl
    def squall_deliver_middleware(self, ctx: Context, subscription: Subscription) -> Middleware:
        start = self._tracer.start_as_current_span

        async def deliver(event: Event, following: Next) -> None:
            context = extract(event.metadata)
            links = [Link(trace.get_current_span(context).get_span_context())]
            about = {**_about(event, "process"), "messaging.consumer.group.name": subscription.label}
            with start(f"process {event.type}", context, SpanKind.CONSUMER, about, links):
                await following(event)
                with start(f"ack {event.type}", kind=SpanKind.CLIENT, attributes=_about(event, "ack")):
                    pass

        return around(deliver, stage="observe")


def _about(event: Event, operation: str) -> dict[str, str | int]:
    return {
        "messaging.system": "squall",
        "messaging.operation.name": operation,
        "messaging.destination.name": event.type,
        "messaging.message.id": event.id,
        "messaging.message.conversation_id": event.correlation_id,
        "messaging.message.body.size": len(event.payload),
    }


async def throughput(case: str, events: int) -> Sample:
    """`events` a second, published, handled, and with all their spans out. Raises RuntimeError where one is missing."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        plugins = default_plugins()
        inline, share = None, SHARES.get(case)
        if share is not None:
            values = {"sample": share, "folder": str(Path(folder)), "max_waiting": MAX_WAITING, "timeout": 60.0}
            plugins.insert(0, TracingPlugin(TracingOptions.of("tracing", values)))
        elif case == "SDK":
            inline = InlinePlugin()
            plugins.insert(0, inline)
        router = EventRouter(plugins)
        await router.start()

        async def handle(event: Event) -> None:
            await tally.count(event.payload)

        await router.subscriber("bench").subscribe("order.>", handle)
        publish = partial(router.publisher("bench").publish, TYPE)
        gc.collect()
        began = time.perf_counter()
        await flood(Case(publish, awaited=True), repeat(payload(1), events), tally, fan=1)
        await router.stop()
        if inline is not None:
            inline.provider.force_flush(60_000)
        took_s = time.perf_counter() - began
        _check(router, inline, share, events)
        if inline is not None:
            inline.provider.shutdown()
    return {"events": events / took_s}


def _check(router: EventRouter, inline: InlinePlugin | None, share: float | None, events: int) -> None:
    """Every span must have left: otherwise it was not as fast as it looked."""
    out = wanted = SPANS * events
    if inline is not None:
        out = inline.exporter.count
    elif share is not None:
        plugin = router.plugin(TracingPlugin)
        out, wanted = plugin.counts["folder"].exported, int(0.5 * share * wanted)
        if plugin.records_dropped or plugin.counts["folder"].dropped:
            raise RuntimeError(f"dropped {plugin.records_dropped} records, {plugin.counts}")
    if out < wanted:
        raise RuntimeError(f"{out} of {wanted} spans came out")


def measure(scale: Scale) -> list[Row]:
    """Off, at 1 %, at 100 %, and the SDK."""
    cases = {case: {"case": case, "events": scale.of(events)} for case, events in EVENTS.items()}
    found = alternate(throughput, cases, scale, GROUP)
    return [
        compare(GROUP, "at 1 %", "events/s", "events", found["at 1 %"], found["off"], "off", Bar("≥", 0.85)),
        compare(GROUP, "at 100 %", "events/s", "events", found["at 100 %"], found["off"], "off"),
        compare(
            GROUP, "at 100 %", "events/s", "events", found["at 100 %"], found["SDK"], "the SDK inline", Bar("≥", 5.0)
        ),
    ]
