"""Spans as OpenTelemetry's SDK has them, and its exporters: to an OTLP receiver over HTTP, to a file of JSON lines."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from opentelemetry.exporter.otlp.json.file.trace_exporter import FileSpanExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from squall.plugins.tracing.exporting import ExportError
from squall.plugins.tracing.spans import Kind, Span

MOST = 512
SCOPE = InstrumentationScope("squall.tracing")
KINDS: dict[Kind, SpanKind] = {
    "internal": SpanKind.INTERNAL,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def readable(span: Span, resource: Resource) -> ReadableSpan:
    """The span as the SDK's exporters take it."""
    offset_ns = span.wall_ns - span.begun_ns
    attributes = {**span.attributes, "squall.why": span.why}
    if span.partial:
        attributes["squall.partial"] = True
    if span.attempt:
        attributes["squall.attempt"] = span.attempt
    if span.waited_ns is not None:
        attributes["squall.waited_s"] = span.waited_ns / 1e9
    status = Status(StatusCode.UNSET)
    if span.error is not None:
        attributes["error.type"] = span.error
        status = Status(StatusCode.ERROR, span.message or span.error)
    return ReadableSpan(
        span.name,
        _context(span.trace, span.span, remote=False),
        _context(span.trace, span.parent, remote=span.kind == "consumer") if span.parent is not None else None,
        resource,
        attributes,
        [Event(note.name, note.attributes, note.at_ns + offset_ns) for note in span.notes],
        [Link(_context(one.trace, one.span, remote=True), {"squall.link": one.what}) for one in span.links],
        KINDS[span.kind],
        status=status,
        start_time=span.wall_ns,
        end_time=span.ended_ns + offset_ns,
        instrumentation_scope=SCOPE,
    )


def _context(trace: str, span: str, *, remote: bool) -> SpanContext:
    return SpanContext(int(trace, 16), int(span, 16), remote, _SAMPLED)


class SdkExporter:
    """One of the SDK's exporters."""

    most = MOST

    def __init__(self, name: str, where: str, exporter: SpanExporter, service: str) -> None:
        self.name, self._where, self._exporter = name, where, exporter
        self._resource = Resource.create({"service.name": service})
        self._shut = threading.Lock()

    def export(self, spans: Sequence[Span]) -> None:
        made = [readable(span, self._resource) for span in spans]
        if self._exporter.export(made) is not SpanExportResult.SUCCESS:
            raise ExportError(f"{self._where}: spans did not arrive (the log of opentelemetry.exporter says why)")

    def hurry(self) -> None:
        """Waits between its own tries end at once."""
        self.close()

    def close(self) -> None:
        if self._shut.acquire(blocking=False):  # it complains when it is shut down twice
            self._exporter.shutdown()


def over_http(url: str, service: str, timeout_s: float) -> SdkExporter:
    """To an OTLP receiver. Headers and certificates are as OpenTelemetry's environment variables say."""
    return SdkExporter("otlp", url, OTLPSpanExporter(url, timeout=timeout_s, compression=Compression.Gzip), service)


def to_file(path: Path, service: str) -> SdkExporter:
    """Added at the end of a file, which is made. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return SdkExporter("file", str(path), FileSpanExporter(path), service)
