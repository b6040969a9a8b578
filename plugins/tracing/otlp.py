"""Spans as OpenTelemetry's SDK has them, and its exporters: to an OTLP receiver over HTTP, to a file of JSON lines."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from opentelemetry.exporter.otlp.json.file.trace_exporter import FileSpanExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv._incubating.attributes import messaging_attributes as names
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from squall.plugins.tracing.exporting import ExportError
from squall.plugins.tracing.spans import Operation, Span, Value

MOST = 512
SCOPE = InstrumentationScope("squall.tracing")
KINDS: Mapping[Operation, SpanKind] = {
    "publish": SpanKind.PRODUCER,
    "store": SpanKind.INTERNAL,
    "process": SpanKind.CONSUMER,
    "ack": SpanKind.CLIENT,
    "nak": SpanKind.CLIENT,
    "dead_letter": SpanKind.CLIENT,
    "drop": SpanKind.CLIENT,
    "redrive": SpanKind.CLIENT,
    "replay": SpanKind.CLIENT,
}
TYPES: Mapping[str, str] = {
    "publish": "send",
    "process": "process",
    "ack": "settle",
    "nak": "settle",
    "dead_letter": "settle",
    "drop": "settle",
    "redrive": "settle",
    "replay": "receive",
}
"""The conventions' type of each operation; the store's part has none."""
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def readable(span: Span, resource: Resource) -> ReadableSpan:
    """The span as the SDK's exporters take it."""
    offset_ns, attributes, kind = span.wall_ns - span.begun_ns, _attributes(span), KINDS[span.operation]
    status = Status(StatusCode.UNSET)
    if span.error is not None:
        attributes[ERROR_TYPE] = span.error
        status = Status(StatusCode.ERROR, span.message or span.error)
    return ReadableSpan(
        f"{span.operation} {span.topic}",
        _context(span.trace, span.span, remote=False),
        _context(span.trace, span.parent, remote=kind is SpanKind.CONSUMER) if span.parent is not None else None,
        resource,
        attributes,
        [Event(note.name, note.attributes, note.at_ns + offset_ns) for note in span.notes],
        [Link(_context(one.trace, one.span, remote=True), {"squall.link": one.what}) for one in span.links],
        kind,
        status=status,
        start_time=span.wall_ns,
        end_time=span.ended_ns + offset_ns,
        instrumentation_scope=SCOPE,
    )


def _attributes(span: Span) -> dict[str, Value]:
    """What the conventions for messaging want, and squall's own."""
    found: dict[str, Value] = {
        names.MESSAGING_SYSTEM: "squall",
        names.MESSAGING_OPERATION_NAME: span.operation,
        names.MESSAGING_DESTINATION_NAME: span.topic,
        "squall.why": span.why,
        **span.more,
    }
    if span.operation in TYPES:
        found[names.MESSAGING_OPERATION_TYPE] = TYPES[span.operation]
    if (about := span.about) is not None:
        found[names.MESSAGING_MESSAGE_ID] = about.id
        found[names.MESSAGING_MESSAGE_CONVERSATION_ID] = about.correlation
        found[names.MESSAGING_MESSAGE_BODY_SIZE] = about.size
        found[names.MESSAGING_CLIENT_ID] = about.source
        found["squall.priority"] = about.priority
        if about.seq:
            found["squall.seq"] = about.seq
        if about.key is not None:
            found["squall.key"] = about.key
    if (receiver := span.receiver) is not None:
        found[names.MESSAGING_CLIENT_ID] = receiver.subscriber
        found[names.MESSAGING_CONSUMER_GROUP_NAME] = receiver.label
        found[names.MESSAGING_DESTINATION_TEMPLATE] = receiver.pattern
    if span.partial:
        found["squall.partial"] = True
    if span.attempt:
        found["squall.attempt"] = span.attempt
    if span.waited_ns is not None:
        found["squall.waited_s"] = span.waited_ns / 1e9
    return found


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
