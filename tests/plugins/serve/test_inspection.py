"""What an operator may ask a server: what the router holds, and what it gave up."""

from __future__ import annotations

from base64 import b64decode

from tests.plugins.serve.served import Served, until

from squall import Event, Reject


async def test_the_status_says_what_is_stored_and_what_is_owed_to_whom() -> None:
    """Pending is what was published and not settled."""
    async with Served() as served, served.client() as client:
        await client.subscribe("order.>", name="billing", credit=0)
        await client.publish("order.created", "order.paid")
        status = (await served.http("GET", "/v1/status")).json
        assert {name: status[name] for name in ("durability", "events", "dead_letters", "next_seq")} == {
            "durability": "memory",
            "events": 2,
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
        assert (await served.http("GET", "/v1/dead-letters?after=2")).json == {"dead_letters": []}


async def test_what_is_no_number_is_told() -> None:
    async with Served() as served:
        for after in ("x", "-1", "1.5", "%C2%B2"):
            answer = await served.http("GET", f"/v1/dead-letters?after={after}")
            assert answer.status == 400
            assert "expected a whole number" in answer.json["detail"]


async def test_both_want_the_token(monkeypatch: object) -> None:
    """As all that says something of events."""
    monkeypatch.setenv("SQUALL_TEST_TOKEN", "a-token-of-tests-alone")  # type: ignore[attr-defined]
    async with Served(token="env:SQUALL_TEST_TOKEN") as served:
        for path in ("/v1/status", "/v1/dead-letters"):
            assert (await served.http("GET", path)).status == 401
