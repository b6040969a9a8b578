"""CloudEvents 1.0: requests as the specification's HTTP binding and JSON format describe them."""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import UUID

import pytest
from tests.plugins.serve.served import Answer, Served

from squall import Event, Query

pytestmark = pytest.mark.slow  # each has a server and connections to it

STRUCTURED, BATCH = "application/cloudevents+json; charset=UTF-8", "application/cloudevents-batch+json"
ID = "6d0f4f64-6f0a-4a4f-9a3c-2a7a1c3f3f10"
WHOLE = {
    "specversion": "1.0",
    "type": "com.example.someevent",
    "source": "/mycontext",
    "id": "A234-1234-1234",
    "time": "2018-04-05T17:31:00Z",
    "subject": "orders/17",
    "comexampleextension1": "value",
    "comexampleothervalue": 5,
    "datacontenttype": "application/vnd.apache.thrift.binary",
    "data_base64": base64.b64encode(b"\0\1 thrift").decode(),
}


async def stored(served: Served) -> list[Event]:
    return list((await served.router.store.read(Query())).events)


async def taken(served: Served, answer: Answer) -> Event:
    """The one event that is stored; the answer says so."""
    assert answer.status == 200, answer
    (event,) = await stored(served)
    assert answer.json == {"id": event.id, "seq": event.seq, "durability": "memory", "duplicate": False}
    return event


async def test_binary_mode() -> None:
    """Attributes in headers, the data as it is, its type in Content-Type; a header's name in any case."""
    async with Served() as served:
        headers = {
            "Ce-SpecVersion": "1.0",
            "CE-Type": "com.example.someevent",
            "ce-time": "2018-04-05T03:56:24Z",
            "ce-id": "1234-1234-1234",
            "ce-source": "/mycontext/subcontext",
            "ce-comexampleextension1": "value",
            "Content-Type": "application/json; charset=utf-8",
        }
        event = await taken(served, await served.http("POST", "/v1/events", b'{"a": "b"}', headers))
        assert (event.type, event.source, event.payload) == (
            "com.example.someevent",
            "/mycontext/subcontext",
            b'{"a": "b"}',
        )
        assert event.data == {"a": "b"}
        assert event.metadata == {
            "content-type": "application/json",
            "time": "2018-04-05T03:56:24Z",
            "ceid": "1234-1234-1234",
            "comexampleextension1": "value",
        }


async def test_headers_are_percent_decoded_and_unquoted() -> None:
    """As section 3.1.3.2 says: `Euro € 😀` in both its forms."""
    async with Served() as served:
        answer = await served.post(
            b"", id="1", type="a", specversion="1.0", source="Euro%20%E2%82%AC%20%F0%9F%98%80", subject='"a \\"b\\""'
        )
        event = await taken(served, answer)
        assert event.source == "Euro € 😀"
        assert (event.metadata["subject"], event.key) == ('a "b"', 'a "b"')


async def test_structured_mode_with_binary_data() -> None:
    """All in one JSON document; data_base64 is decoded, and extensions keep their types."""
    async with Served() as served:
        event = await taken(served, await served.post(WHOLE, STRUCTURED))
        assert event.payload == b"\0\1 thrift"
        assert event.key == "orders/17"
        assert event.metadata == {
            "content-type": "application/vnd.apache.thrift.binary",
            "time": "2018-04-05T17:31:00Z",
            "subject": "orders/17",
            "ceid": "A234-1234-1234",
            "comexampleextension1": "value",
            "comexampleothervalue": 5,
        }


@pytest.mark.parametrize(
    ("more", "payload", "content_type"),
    [
        ({"data": {"appinfoA": "abc", "appinfoB": 123}}, b'{"appinfoA": "abc", "appinfoB": 123}', "application/json"),
        ({"data": "text"}, b'"text"', "application/json"),
        ({"data": None}, b"null", "application/json"),
        ({"datacontenttype": "application/xml", "data": '<much wow="xml"/>'}, b'<much wow="xml"/>', "application/xml"),
        ({"datacontenttype": "text/plain", "data": 5}, b"5", "text/plain"),
        ({"datacontenttype": "application/problem+json", "data": "a"}, b'"a"', "application/problem+json"),
        ({"datacontenttype": "text/plain"}, b"", "text/plain"),
        ({}, b"", None),
    ],
)
async def test_structured_mode_carries_json_and_text(
    more: dict[str, Any], payload: bytes, content_type: str | None
) -> None:
    """JSON stays as it is written; text of another type is the data itself; without a type it is JSON."""
    async with Served() as served:
        document = {"specversion": "1.0", "type": "a", "source": "/s", "id": ID, **more}
        event = await taken(served, await served.post(document, STRUCTURED))
        assert event.payload == payload
        assert event.metadata.get("content-type") == content_type


async def test_the_extensions_that_squall_knows() -> None:
    """Key, priority and correlation; they are the event's own then, and not metadata."""
    async with Served() as served:
        extensions = {"partitionkey": "p", "subject": "s", "priority": "high", "correlationid": "c", "ttlms": 9e9}
        document = {"specversion": "1.0", "type": "a", "source": "/s", "id": ID, **extensions}
        event = await taken(served, await served.post(document, STRUCTURED))
        assert (event.key, event.priority.name, event.correlation_id) == ("p", "HIGH", "c")
        assert event.metadata == {"subject": "s"}


async def test_an_id_is_kept_or_stands_for_source_and_id() -> None:
    """A UUID is the event's own; any other id gives the same one for the same source alone."""
    async with Served() as served:
        ids = []
        for source, given in (("/a", ID), ("/a", "1"), ("/a", "1"), ("/b", "1"), ("/a", "x" * 36)):
            answer = await served.post(b"", id=given, type="a", source=source, specversion="1.0")
            ids.append(answer.json["id"])
        assert ids[0] == ID
        assert ids[1] == ids[2] != ids[3]
        assert len({UUID(one) for one in ids}) == 4


async def test_batch_mode_is_atomic() -> None:
    """All have their receipts in order, or none is stored and the wrong one is named."""
    async with Served() as served:
        batch = [{"specversion": "1.0", "type": f"t{n}", "source": "/s", "id": str(n), "data": n} for n in range(3)]
        answer = await served.post(batch, BATCH)
        assert [one["seq"] for one in answer.json["receipts"]] == [1, 2, 3]
        assert [event.type for event in await stored(served)] == ["t0", "t1", "t2"]
        batch[1]["type"] = "not..a.type"
        refused = await served.post(batch, BATCH)
        assert (refused.status, refused.json["outcome"]) == (400, "fail")
        assert refused.json["detail"].startswith("events[1].")
        del batch[1]["id"]
        assert "events[1].id: expected a CloudEvent" in (await served.post(batch, BATCH)).json["detail"]
        assert len(await stored(served)) == 3
        assert (await served.post([], BATCH)).json == {"receipts": []}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": None}, "it has no id"),
        ({"id": ""}, "it has no id"),
        ({"source": 5}, "it has no source"),
        ({"type": None}, "it has no type"),
        ({"specversion": "0.3"}, "specversion: expected 1.0, got '0.3'"),
        ({"type": "no spaces"}, "no spaces"),
        ({"time": "yesterday"}, "time: expected a timestamp"),
        ({"time": "2018-04-05"}, "time: expected a timestamp"),
        ({"Upper": "a"}, "attribute 'Upper'"),
        ({"data": 1}, "expected data or data_base64, got both"),
        ({"data_base64": "%%%"}, "data_base64: expected base64"),
        ({"data_base64": 5}, "data_base64: expected base64"),
        ({"priority": "URGENT"}, "priority: expected one of CRITICAL, HIGH, NORMAL, LOW, got 'URGENT'"),
        ({"partitionkey": 5}, "partitionkey: expected text"),
        ({"subject": 5}, "subject: expected text"),
        ({"partitionkey": 0}, "partitionkey: expected text"),
        ({"partitionkey": "p" * 257}, "partitionkey: expected text of 1 to 256 characters"),
        ({"subject": "s" * 257}, "subject: expected text of 1 to 256 characters"),
        ({"source": "s" * 257}, "source: expected text of 1 to 256 characters"),
        ({"correlationid": "c" * 257}, "correlationid: expected text of 1 to 256 characters"),
        ({"correlationid": ""}, "correlationid: expected text of 1 to 256 characters"),
        ({"type": "$own"}, "type: expected one that does not begin with '$'"),
        ({"data_base64": base64.b64encode(b"x" * 1_048_577).decode()}, "data: expected at most 1048576 bytes"),
        ({"delayms": -5}, "delayms: expected a whole number of milliseconds"),
        ({"delayms": 31_536_000_001}, "delayms: expected a whole number of milliseconds, 0 to 31536000000"),
        ({"ttlms": 0}, "ttlms: expected a whole number of milliseconds, 1 to 31536000000, got 0"),
        ({"delayms": 500, "ttlms": 100}, "ttlms: expected more than delayms, which is 500, got 100"),
        ({"datacontenttype": 5}, "datacontenttype: expected text"),
    ],
)
async def test_what_is_no_event_is_refused(change: dict[str, Any], message: str) -> None:
    """400, with the attribute's name, and nothing is stored."""
    async with Served() as served:
        answer = await served.post({**WHOLE, **change}, STRUCTURED)
        assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
        assert (answer.json["title"], answer.json["outcome"]) == ("InvalidEvent", "fail")
        assert message in answer.json["detail"]
        assert await stored(served) == []


@pytest.mark.parametrize(
    ("body", "content_type", "status", "message"),
    [
        (b"{", STRUCTURED, 400, "no CloudEvent in JSON"),
        (b"[]", STRUCTURED, 400, "no CloudEvent in JSON"),
        (b"{}", BATCH, 400, "no CloudEvent in JSON"),
        (b"[5]", BATCH, 400, "no CloudEvent in JSON"),
        (b"\xff\xfe", STRUCTURED, 400, "no CloudEvent in JSON"),
        (b'{"a": 1e999}', STRUCTURED, 400, "a: expected a value that can be kept"),
        (b'{"a": "\xff"}', STRUCTURED, 400, "no CloudEvent in JSON"),
        (b'{"a":' * 100_000, STRUCTURED, 400, "no CloudEvent in JSON"),
        (b"<a/>", "application/cloudevents+xml", 415, "expected application/cloudevents+json"),
        (b"{}", "application/json", 400, "it has no id"),
    ],
)
async def test_what_cannot_be_read_is_refused(body: bytes, content_type: str, status: int, message: str) -> None:
    """With what was expected."""
    async with Served() as served:
        answer = await served.post(body, content_type)
        assert answer.status == status
        assert message in answer.json["detail"]
        assert await stored(served) == []


async def test_a_header_that_is_no_text_is_refused() -> None:
    """Percent-encoding of what is not UTF-8."""
    async with Served() as served:
        answer = await served.post(b"", id="1", type="a", source="%FF", specversion="1.0")
        assert answer.status == 400
        assert "ce-source: expected UTF-8" in answer.json["detail"]


async def test_more_events_than_a_batch_may_have_are_refused() -> None:
    """A thousand go."""
    async with Served() as served:
        one = {"specversion": "1.0", "type": "a", "source": "/s"}
        batch = [{**one, "id": str(n)} for n in range(1001)]
        answer = await served.post(json.dumps(batch).encode(), BATCH)
        assert (answer.status, answer.json["title"]) == (400, "InvalidEvent")
        assert "at most 1000, got 1001" in answer.json["detail"]
        assert (await served.post(batch[1:], BATCH)).status == 200
