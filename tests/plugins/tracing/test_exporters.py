"""Where spans go: to a real OTLP receiver over HTTP, to a file, and into a folder that others read meanwhile."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from opentelemetry.semconv._incubating.attributes import messaging_attributes
from opentelemetry.semconv.attributes import error_attributes, exception_attributes
from tests.core.world import Heard, until
from tests.plugins.tracing.traced import MANY_TURNS, of, receiving, rows, traced

from squall import EventRouter, WiringError
from squall.plugins.tracing import TracingPlugin

KINDS = {
    "publish": WireSpan.SPAN_KIND_PRODUCER,
    "store": WireSpan.SPAN_KIND_INTERNAL,
    "process": WireSpan.SPAN_KIND_CONSUMER,
    "ack": WireSpan.SPAN_KIND_CLIENT,
    "nak": WireSpan.SPAN_KIND_CLIENT,
    "dead_letter": WireSpan.SPAN_KIND_CLIENT,
}


def unfinished(folder: Path) -> list[Path]:
    """Files that were not renamed."""
    return list(folder.glob("*.tmp-*"))


IMPORTS = """\
import sys
from pathlib import Path
from squall.plugins.tracing.exporting import ExporterCounts
from squall.plugins.tracing.folder import FolderExporter
from squall.plugins.tracing.spans import Span
exporter = FolderExporter(Path(sys.argv[1]), lambda: 0, lambda: ExporterCounts(0, 0, 0, 0))
before = set(sys.modules)
exporter.export([Span("a", "b", None, "ack", "order.created", 1, 2, 3)])
print(sorted(set(sys.modules) - before))
"""


@pytest.mark.slow  # a process
def test_nothing_is_left_to_import_when_the_first_spans_come(tmp_path: Path) -> None:
    """Whoever imports holds up the loop that events pass through."""
    pytest.importorskip("pandas")
    command = [sys.executable, "-c", IMPORTS, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


async def one_failure(router: EventRouter) -> None:
    """One event, two subscribers, one of which gives it up after three attempts."""
    good, bad = Heard(), Heard(ValueError("no"))
    await router.subscriber("good").subscribe("order.*", good)
    await router.subscriber("bad").subscribe("order.>", bad, name="billing")
    await router.publisher("shop").publish("order.created", b"12345", correlation_id="conversation", key="k")
    await until(lambda: good.events and router.get_metrics().dead_lettered, MANY_TURNS)


def value_of(span: WireSpan, name: str) -> object:
    """One attribute of a span that was received."""
    found = [one.value for one in span.attributes if one.key == name]
    return getattr(found[0], str(found[0].WhichOneof("value"))) if found else None


async def test_a_receiver_gets_what_the_protocol_says(tmp_path: Path) -> None:
    """Ids, kinds, parents, links, times and status, as OTLP over HTTP has them; the same spans as in the folder."""
    with receiving() as receiver:
        async with traced(tmp_path, otlp=receiver.url, service="shop") as router:
            await one_failure(router)
        got = {one.span_id.hex(): one for one in receiver.spans}
    written = rows(tmp_path)
    assert got.keys() == {one.span for one in written}
    for row in written:
        span = got[row.span]
        assert span.trace_id.hex() == row.trace
        assert (span.parent_span_id.hex() or None) == row.parent
        assert span.name == row.name
        assert span.kind == KINDS[row.operation]
        assert span.start_time_unix_nano == row.wall
        assert span.end_time_unix_nano - span.start_time_unix_nano == row.ended - row.begun
        assert [one.span_id.hex() for one in span.links] == [one["span"] for one in row.links]
        assert (span.status.code == Status.STATUS_CODE_ERROR) == (row.error is not None)
        assert value_of(span, "error.type") == row.error
    assert all(one["service.name"] == "shop" for one in receiver.resources)


async def test_spans_follow_the_conventions_for_messaging(tmp_path: Path) -> None:
    """Every name is one of OpenTelemetry's or begins with squall; required ones are there."""
    with receiving() as receiver:
        async with traced(tmp_path, otlp=receiver.url) as router:
            await one_failure(router)
        spans = receiver.spans
    known = {
        value
        for module in (messaging_attributes, error_attributes, exception_attributes)
        for name, value in inspect.getmembers(module)
        if name.isupper() and isinstance(value, str)
    }
    names = {one.key for span in spans for one in span.attributes}
    assert {name for name in names if not name.startswith("squall.")} <= known
    for span in spans:
        assert value_of(span, messaging_attributes.MESSAGING_SYSTEM) == "squall"
        assert span.name == f"{value_of(span, messaging_attributes.MESSAGING_OPERATION_NAME)} order.created"
    (attempt,) = [one for one in spans if one.name.startswith("process") and value_of(one, "squall.attempt") == 3]
    assert value_of(attempt, messaging_attributes.MESSAGING_OPERATION_TYPE) == "process"
    assert value_of(attempt, messaging_attributes.MESSAGING_CONSUMER_GROUP_NAME) == "billing"
    assert value_of(attempt, messaging_attributes.MESSAGING_CLIENT_ID) == "bad"
    assert value_of(attempt, messaging_attributes.MESSAGING_DESTINATION_TEMPLATE) == "order.>"
    assert value_of(attempt, messaging_attributes.MESSAGING_MESSAGE_CONVERSATION_ID) == "conversation"
    assert value_of(attempt, messaging_attributes.MESSAGING_MESSAGE_BODY_SIZE) == 5
    assert [one.name for one in attempt.events] == ["exception"]


async def test_a_file_gets_lines_of_otlp_json(tmp_path: Path) -> None:
    """Each line is one request, ids in hexadecimal; what was there stays."""
    path = tmp_path / "made" / "traces.jsonl"
    for _ in range(2):
        async with traced(tmp_path / "spans", file=str(path)) as router:
            await router.publisher("shop").publish("a.b", b"")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    spans = [
        span
        for line in lines
        for resource in line["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    assert {(one["traceId"], one["spanId"]) for one in spans} == {
        (one.trace, one.span) for one in rows(tmp_path / "spans")
    }


async def test_a_folder_is_read_while_it_is_written(tmp_path: Path) -> None:
    """Whole files, every `flush`; later ones are added, also by another process."""
    async with traced(tmp_path, flush=0.01) as router:
        await router.publisher("shop").publish("a.b", b"")
        await until(lambda: rows(tmp_path), MANY_TURNS)
        await router.publisher("shop").publish("a.b", b"")
    async with traced(tmp_path) as router:
        await router.publisher("shop").publish("a.b", b"")
    assert len(of(rows(tmp_path), "publish")) == 3
    assert unfinished(tmp_path) == []
    counts = json.loads((tmp_path / "tracing.json").read_text(encoding="utf-8"))
    assert (counts["records_dropped"], counts["dropped"]) == (0, 0)


async def test_a_file_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    """A mistake that is told at once, not a trace that is missed later."""
    (tmp_path / "taken").write_text("")
    router = EventRouter([TracingPlugin(file=str(tmp_path / "taken" / "traces.jsonl"))])
    with pytest.raises(WiringError, match=r"tracing\.file: .*traces\.jsonl cannot be written"):
        await router.start()


async def handled(router: EventRouter, heard: Heard, count: int) -> None:
    """Publish so many events, and wait until all are handled."""
    before = len(heard.events)
    for _ in range(count):
        await router.publisher("shop").publish("a.b", b"")
    await until(lambda: len(heard.events) == before + count, MANY_TURNS)


async def test_an_outage_harms_no_event_and_spans_arrive_after_it(tmp_path: Path) -> None:
    """Events are published and handled as ever; what waited is sent when the receiver answers again."""
    with receiving() as receiver:
        receiver.answer = 503
        async with traced(tmp_path, otlp=receiver.url, flush=0.01, timeout=30.0) as router:
            heard = Heard()
            await router.subscriber("x").subscribe("a.>", heard)
            await handled(router, heard, 50)
            await until(lambda: receiver.requests, MANY_TURNS)
            receiver.answer = 200
            await handled(router, heard, 50)
        plugin = router.plugin(TracingPlugin)
        assert len({one.span_id for one in receiver.spans}) == len(rows(tmp_path)) == 400
    assert plugin.counts["otlp"].dropped == 0


async def test_what_finds_no_place_is_dropped_and_counted(tmp_path: Path) -> None:
    """A receiver that does not answer: so many spans wait, the rest is counted; the folder gets all of them."""
    with receiving() as receiver:
        receiver.free.clear()
        async with traced(tmp_path, otlp=receiver.url, flush=0.01, max_waiting=100, timeout=0.5) as router:
            heard = Heard()
            await router.subscriber("x").subscribe("a.>", heard)
            plugin = router.plugin(TracingPlugin)
            for _ in range(4):
                before = plugin.counts["folder"].exported
                await handled(router, heard, 20)
                await until(lambda: plugin.counts["folder"].exported >= before + 80, MANY_TURNS)  # noqa: B023
            assert plugin.counts["otlp"].dropped > 0
            assert f'squall_tracing_spans_dropped_total{{exporter="otlp"}} {plugin.counts["otlp"].dropped}' in (
                plugin.squall_metrics_text()
            )
        receiver.free.set()
    counts = plugin.counts
    assert counts["folder"].exported == len(rows(tmp_path)) == 320
    assert counts["otlp"].exported + counts["otlp"].dropped == 320


async def test_too_many_records_are_dropped_and_counted(tmp_path: Path) -> None:
    """More than max_waiting between two flushes."""
    async with traced(tmp_path, max_waiting=100, flush=60.0) as router:
        for _ in range(150):
            await router.publisher("shop").publish("a.b", b"")
        plugin = router.plugin(TracingPlugin)
        assert plugin.records_dropped == 50
        assert "squall_tracing_records_dropped_total 50" in plugin.squall_metrics_text()
    assert len(of(rows(tmp_path), "publish")) == 100


async def test_a_stop_waits_no_longer_than_its_time(tmp_path: Path) -> None:
    """A receiver that hangs: the router stops all the same, the folder is whole, and the rest is counted."""
    with receiving() as receiver:
        receiver.free.clear()
        async with traced(tmp_path, otlp=receiver.url, flush=0.01, timeout=0.3) as router:
            await router.publisher("shop").publish("a.b", b"")
            plugin = router.plugin(TracingPlugin)
            await until(lambda: receiver.asked.is_set() and plugin.counts["folder"].exported == 2, MANY_TURNS)
        # It came here, though the receiver never answered.
        assert receiver.spans == []
        receiver.free.set()
    counts = plugin.counts
    assert counts["otlp"].dropped == 2
    assert len(rows(tmp_path)) == counts["folder"].exported == 2


async def test_nobody_listening_is_no_problem(tmp_path: Path) -> None:
    """No receiver at all."""
    with receiving() as receiver:
        url = receiver.url
    async with traced(tmp_path, otlp=url, flush=0.01, timeout=0.3) as router:
        heard = Heard()
        await router.subscriber("x").subscribe("a.>", heard)
        await handled(router, heard, 20)
        plugin = router.plugin(TracingPlugin)
        await until(lambda: plugin.counts["folder"].exported == 80, MANY_TURNS)
    assert plugin.counts["otlp"].exported == 0
    assert len(rows(tmp_path)) == 80
