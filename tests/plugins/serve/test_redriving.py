"""Dead letters of a server, given back: by HTTP, and by `squall dlq`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.plugins.serve.served import TOKEN, Answer, Served, until
from typer.testing import CliRunner, Result

from squall import Event, Reject
from squall.chaos.cli import app

pytestmark = pytest.mark.slow  # each has a server and connections to it


class Picky:
    """Rejects what it is given, until it is mended."""

    def __init__(self) -> None:
        self.mended = False
        self.seen: list[int] = []

    async def __call__(self, event: Event) -> None:
        self.seen.append(event.seq)
        if not self.mended:
            raise Reject("not today\x1b[2J")


async def buried(served: Served, *types: str) -> Picky:
    """Events of these types, given up by billing."""
    picky, before = Picky(), served.router.get_metrics().dead_lettered
    await served.router.subscriber("billing").subscribe(">", picky, name="billing")
    for number, event_type in enumerate(types):
        await served.router.publisher("shop").publish(event_type, {"order": number}, key="k")
    await until(lambda: served.router.get_metrics().dead_lettered == before + len(types))
    return picky


async def redrive(served: Served, **asked: Any) -> Answer:
    return await served.http("POST", "/v1/dead-letters/redrive", json.dumps(asked).encode())


async def test_without_a_token_nothing_is_given_back_and_with_it_just_that() -> None:
    """What is told is as the page of the interface says, before and after."""
    async with Served() as served:
        schemas = (await served.http("GET", "/openapi.json")).json["components"]
        picky = await buried(served, "order.created", "user.born", "order.paid")
        plan = (await redrive(served, pattern="order.>", subscription="billing", limit=2.0)).json
        jsonschema.validate(plan, {"$ref": "#/components/schemas/Plan", "components": schemas})
        assert ([one["seq"] for one in plan["dead_letters"]], plan["more"]) == ([1, 3], False)
        assert picky.seen == [1, 2, 3]
        picky.mended = True
        asked = {"pattern": "order.>", "subscription": "billing", "limit": 2, "token": plan["token"], "per_second": 1e6}
        given = (await redrive(served, **asked)).json
        jsonschema.validate(given, {"$ref": "#/components/schemas/Redriven", "components": schemas})
        assert ([one["seq"] for one in given["given_back"]], given["left"]) == ([1, 3], [])
        await until(lambda: picky.seen == [1, 2, 3, 1, 3])
        again = await redrive(served, **asked)
        assert (again.status, again.json["title"], again.json["outcome"]) == (409, "OutdatedToken", "fail")
        letters = (await served.http("GET", "/v1/dead-letters?subscription=billing")).json["dead_letters"]
        assert [(one["redrives"], one["given_back"] is None) for one in letters] == [(1, False), (0, True), (1, False)]
        for one in letters:
            jsonschema.validate(one, {"$ref": "#/components/schemas/DeadLetter", "components": schemas})
        nobody = (await served.http("GET", "/v1/dead-letters?subscription=nobody")).json
        assert nobody == {"dead_letters": [], "next": None}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "JSON"),
        (b"[]", "object"),
        (b'{"who": 1}', "who"),
        (b'{"limit": 0}', "limit"),
        (b'{"limit": 1001}', "limit"),
        (b'{"per_second": 0}', "per_second"),
        (b'{"per_second": 1e999}', "per_second"),
        (b'{"limit": 1.5}', "limit"),
        (b'{"token": "\xff"}', "utf-8"),
        (b"[" * 100_000, "recursion"),
        (b'{"seqs": [0]}', "seqs"),
        (b'{"reason": "bad"}', "reason"),
        (b'{"pattern": "a..b"}', "pattern"),
    ],
)
async def test_what_is_asked_wrongly_is_told(body: bytes, expected: str) -> None:
    async with Served() as served:
        answer = await served.http("POST", "/v1/dead-letters/redrive", body)
        assert (answer.status, answer.json["title"]) == (400, "BadRequest")
        assert expected in answer.json["detail"]


async def test_a_server_that_stops_gives_nothing_back() -> None:
    async with Served() as served:
        served.server.hub.drain(0)
        assert (await redrive(served)).status == 503


async def dlq(*arguments: str, env: Mapping[str, str] | None = None) -> Result:
    """`squall dlq` with these arguments, beside the server's loop."""
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, ["dlq", *arguments], env=env))


async def test_the_command_line_lists_shows_and_gives_back_after_a_dry_run() -> None:
    """By the url; what events and errors say moves no cursor."""
    async with Served() as served:
        picky = await buried(served, "order.created", "user.born", "order.paid")
        at = ("--url", f"http://127.0.0.1:{served.port}")
        listed = await dlq("list", *at, "--pattern", "order.*")
        assert listed.exit_code == 0, listed.output
        assert "order.created" in listed.output
        assert "user.born" not in listed.output
        assert "\x1b" not in listed.output
        found = json.loads((await dlq("list", *at, "--reason", "rejected", "--json")).output)["dead_letters"]
        assert [one["seq"] for one in found] == [1, 2, 3]
        shown = await dlq("show", "2", *at)
        assert shown.exit_code == 0, shown.output
        for part in ("user.born", '{"order":1}', "not today\\x1b[2J", "Traceback"):
            assert part in shown.output
        dry = await dlq("redrive", "1", "3", *at)
        assert dry.exit_code == 0, dry.output
        assert "2 dead letters would be given back. Nothing was" in dry.output
        assert picky.seen == [1, 2, 3]
        picky.mended = True
        token = dry.output.split("--confirm ")[1].strip()
        given = await dlq("redrive", "1", "3", *at, "--confirm", token)
        assert (given.exit_code, given.output) == (0, "2 dead letters given back\n")
        await until(lambda: picky.seen == [1, 2, 3, 1, 3])
        again = await dlq("redrive", "1", "3", *at, "--confirm", token)
        assert again.exit_code == 1
        assert "nothing was redriven" in again.output
        plan = json.loads((await dlq("redrive", *at, "--json")).output)
        assert ([one["seq"] for one in plan["dead_letters"]], plan["more"]) == ([2], False)


async def test_what_is_left_is_told_and_is_exit_code_1() -> None:
    """Of a subscription that is no more, nobody would be given it."""
    async with Served() as served:
        await buried(served, "order.created")
        (own,) = served.router.subscriptions.dispatchers
        await served.router.subscriber("billing").unsubscribe(own)
        at = ("--url", f"http://127.0.0.1:{served.port}")
        token = json.loads((await dlq("redrive", *at, "--json")).output)["token"]
        given = await dlq("redrive", *at, "--confirm", token)
        assert given.exit_code == 1
        assert "1 dead letter left" in given.output
        assert "order.created" in given.output


async def test_beside_squall_yaml_the_server_and_its_token_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --url they are not used: the token is for its own server alone."""
    monkeypatch.setenv("BUS_TOKEN", TOKEN)
    async with Served(token="env:BUS_TOKEN") as served:
        await buried(served, "order.created")
        config = tmp_path / "squall.yaml"
        serve = f"{{host: 0.0.0.0, port: {served.port}, token: 'env:BUS_TOKEN'}}"
        config.write_text(f"version: 1\nplugins:\n  - serve: {serve}\n", encoding="utf-8")
        listed = await dlq("list", "--config", str(config))
        assert listed.exit_code == 0, listed.output
        at = ("--url", f"http://127.0.0.1:{served.port}")
        refused = await dlq("list", *at, "--config", str(config))
        assert refused.exit_code == 2
        assert "the token is missing" in refused.output
        assert (await dlq("list", *at, "--token", "env:BUS_TOKEN")).exit_code == 0
        told = await dlq("list", *at, "--token", TOKEN)
        assert told.exit_code == 2
        assert TOKEN not in told.output


async def test_mistakes_are_exit_code_2_and_a_server_that_is_not_there_4() -> None:
    async with Served() as served:
        at = ("--url", f"http://127.0.0.1:{served.port}")
        for arguments, expected in (
            (("show", *at), "expected the seqs"),
            (("show", "9", *at), "expected the seqs"),
            (("list", "--pattern", "a..b", *at), "pattern"),
            (("list", "--reason", "bad", *at), "reason"),
            (("redrive", "--limit", "5000", *at), "limit"),
            (("redrive", "--reason", "bad", *at), "reason"),
            (("list", "--url", "localhost:1"), "--url: expected http://"),
            (("list", "--url", f"{at[1]}/docs"), "/docs/v1/dead-letters: Not Found"),
        ):
            told = await dlq(*arguments)
            assert (told.exit_code, expected in told.output) == (2, True), told.output
    told = await dlq("list", *at)
    assert told.exit_code == 4
    assert "is it running there?" in told.output
    assert "start `squall serve` there" in told.output


@pytest.mark.parametrize("arguments", [("list",), ("show", "1"), ("redrive",)])
async def test_who_asks_without_a_server_is_told_that_there_must_be_one(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """A store's file beside squall.yaml is not enough: which server was asked, and where to start it."""
    config = tmp_path / "squall.yaml"
    config.write_text("version: 1\nplugins: [{sqlite: {path: orders.db}}, {serve: {port: 1}}]")
    told = await dlq(*arguments, "--config", str(config))
    assert told.exit_code == 4
    assert "dlq asks a running squall serve" in told.output
    assert "http://127.0.0.1:1" in told.output
    assert f"start `squall serve` beside {config}" in told.output
