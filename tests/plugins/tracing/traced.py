"""A router whose traces go into a folder, and the spans that it wrote there; a receiver of OTLP over HTTP."""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

from squall import EventRouter, Plugin
from squall.plugins.retry import RetryPlugin
from squall.plugins.tracing import TracingPlugin
from squall.plugins.tracing.options import TracingOptions

MANY_TURNS = 1_000_000_000
"""For what a thread does meanwhile, which turns of the loop say nothing about: the test's own time limit counts."""


@dataclass(frozen=True)
class Row:
    """One span as the folder has it."""

    trace: str
    span: str
    parent: str | None
    operation: str
    topic: str
    subscription: str | None
    subscriber: str | None
    pattern: str | None
    event: str | None
    source: str | None
    correlation: str | None
    key: str | None
    priority: str | None
    size: int | None
    seq: int | None
    attempt: int | None
    begun: int
    ended: int
    wall: int
    waited: int | None
    error: str | None
    message: str | None
    why: str
    partial: bool
    attributes: dict[str, Any]
    links: list[dict[str, str]]
    events: list[dict[str, Any]]

    @property
    def name(self) -> str:
        """As spans are called."""
        return f"{self.operation} {self.topic}"


def rows(folder: Path) -> list[Row]:
    """All spans in the folder, in the order of their begins."""
    found: list[Row] = []
    for file in sorted(folder.glob("*.parquet")):
        for row in pq.read_table(file).to_pylist():
            row["attributes"] = json.loads(row["attributes"] or "{}")
            found.append(Row(**{**row, "links": row["links"] or [], "events": row["events"] or []}))
    return sorted(found, key=lambda one: one.begun)


def of(spans: list[Row], operation: str, **having: object) -> list[Row]:
    """Those of one operation that have these values."""
    return [
        one
        for one in spans
        if one.operation == operation and all(getattr(one, name) == value for name, value in having.items())
    ]


@contextlib.asynccontextmanager
async def traced(folder: Path, *others: Plugin, **options: object) -> AsyncIterator[EventRouter]:
    """A router that traces into folder. Failed deliveries are tried twice more, at once; its end writes all spans."""
    values = {"folder": str(folder), "sample": 1.0, "timeout": 30.0, **options}
    tracing = TracingPlugin(TracingOptions.of("tracing", values))
    retry = RetryPlugin(attempts=3, base=0.001, cap=0.001)
    async with EventRouter([tracing, *others, retry]) as router:
        yield router


class Receiver:
    """A receiver of traces by OTLP over HTTP, which reads what it gets as the protocol says. `answer` is its HTTP
    status from now on; while `free` is not set it does not answer."""

    def __init__(self) -> None:
        self.spans: list[WireSpan] = []
        self.resources: list[dict[str, str]] = []
        self.requests = 0
        self.answer = 200
        self.free = threading.Event()
        self.free.set()
        self.asked = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.asked.set()
                receiver.free.wait()
                with contextlib.suppress(ConnectionError):
                    self.send_response(receiver.take(self.path, dict(self.headers), body))
                    self.end_headers()

            def log_message(self, *parts: object) -> None:
                """Nothing to say."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Read one request; returns the answer's status."""
        self.requests += 1
        if self.answer != 200:
            return self.answer
        named = {name.lower(): value for name, value in headers.items()}
        if path != "/v1/traces" or named["content-type"] != "application/x-protobuf":
            return 400
        message = ExportTraceServiceRequest.FromString(
            gzip.decompress(body) if named.get("content-encoding") == "gzip" else body
        )
        for resource in message.resource_spans:
            self.resources.append({one.key: one.value.string_value for one in resource.resource.attributes})
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return 200

    def close(self) -> None:
        self.free.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port of loopback."""
    receiver = Receiver()
    try:
        yield receiver
    finally:
        receiver.close()
