"""What an operator may ask a server: what the router holds, and what it gave up."""

from __future__ import annotations

from base64 import b64decode

import pytest
from tests.plugins.serve.served import Served, until

from squall import Event, Reject
from squall.plugins.serve import inspection

pytestmark = pytest.mark.slow  # each has a server and connections to it


async def test_the_status_says_what_is_stored_and_what_is_owed_to_whom() -> None:
    """Pending is what was published and not settled."""
    async with Served() as served, served.client() as client:
        await client.subscribe("order.>", name="billing", credit=0)
        await client.publish("order.created", "order.paid")
        status = (await served.http("GET", "/v1/status")).json
        assert {name: status[name] for name in ("durability", "events", "max_events", "dead_letters", "next_seq")} == {
            "durability": "memory",
            "events": 2,
            "max_events": 100_000,
            "dead_letters": 0,
            "next_seq": 3,
        }
        (one,) = status["subscriptions"]
        assert (one["name"], one["pattern"], one["pending"]) == ("billing", "order.>", 2)


async def test_dead_letters_are_listed_from_the_nth_on() -> None:
    """With the payload as it was published, and why."""

    async def refuse(event: Event) -> None:
        raise Reject("not today")

    async with Served() as served:
        await served.router.subscriber("billing").subscribe("order.>", refuse)
        for payload in (b"\x00\xff", b"second"):
            await served.router.publisher("shop").publish("order.created", payload, key="k")
        await until(lambda: served.router.get_metrics().dead_lettered == 2)
        found = (await served.http("GET", "/v1/dead-letters")).json["dead_letters"]
        assert [b64decode(one["payload_base64"]) for one in found] == [b"\x00\xff", b"second"]
        assert {(one["subscription"], one["reason"], one["key"]) for one in found} == {("billing", "rejected", "k")}
        (last,) = (await served.http("GET", "/v1/dead-letters?after=1")).json["dead_letters"]
        assert last == found[1]
        assert (await served.http("GET", "/v1/dead-letters?after=2")).json == {"dead_letters": [], "next": None}


async def test_only_those_that_are_asked_for_are_listed_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """By reason, type and seq, also those that were given back; next leads from page to page, and ends. A page holds no
    more payloads than are sent at once, and one letter at least."""

    async def refuse(event: Event) -> None:
        raise Reject("not today")

    async with Served() as served:
        await served.router.subscriber("billing").subscribe(">", refuse, name="billing")
        for event_type in ("order.created", "user.born", "order.paid", "order.sent"):
            await served.router.publisher("shop").publish(event_type, b"x" * 100)
        await until(lambda: served.router.get_metrics().dead_lettered == 4)

        async def listed(query: str) -> tuple[list[int], int | None]:
            found = (await served.http("GET", f"/v1/dead-letters?{query}")).json
            return [one["seq"] for one in found["dead_letters"]], found["next"]

        assert await listed("pattern=order.*&limit=2") == ([1, 3], 3)
        assert await listed("pattern=order.*&limit=2&after=3") == ([4], None)
        assert await listed("pattern=order.*&limit=3") == ([1, 3, 4], None)
        assert await listed("reason=rejected&seq=2&subscription=billing") == ([2], None)
        assert await listed("reason=timeout") == ([], None)
        monkeypatch.setattr(inspection, "MAX_PAGE_BYTES", 250)
        assert await listed("") == ([1, 2], 2)
        monkeypatch.setattr(inspection, "MAX_PAGE_BYTES", 50)
        assert await listed("after=2") == ([3], 3)
        assert await listed("after=3") == ([4], None)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        *((f"after={text}", "expected a whole number") for text in ("x", "-1", "1.5", "%C2%B2", "")),
        ("seq=0", "seq: expected a whole number"),
        ("limit=0", "limit: expected a whole number"),
        ("limit=1001", "limit: expected 1 to 1000"),
        ("reason=bad", "reason: expected one of rejected"),
        ("pattern=a..b", "pattern"),
    ],
)
async def test_what_is_asked_wrongly_is_told(query: str, expected: str) -> None:
    async with Served() as served:
        answer = await served.http("GET", f"/v1/dead-letters?{query}")
        assert (answer.status, answer.json["title"]) == (400, "BadRequest")
        assert expected in answer.json["detail"]


async def test_both_want_the_token(monkeypatch: object) -> None:
    """As all that says something of events."""
    monkeypatch.setenv("SQUALL_TEST_TOKEN", "a-token-of-tests-alone")  # type: ignore[attr-defined]
    async with Served(token="env:SQUALL_TEST_TOKEN") as served:
        for path in ("/v1/status", "/v1/dead-letters"):
            assert (await served.http("GET", path)).status == 401
