"""`squall serve` as a target: what it claims, what it tells of deliveries, and what becomes of them at its end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pytest
import redis
from tests.chaos.targets.test_redis_streams import Sink
from tests.chaos.whole_run import run
from tests.core.stores import KeptMemory, SlowToSettle
from tests.plugins.serve.served import Served, until
from tests.servers import Server

import squall
from squall.chaos.history import open_history
from squall.chaos.run import RunResult
from squall.core.target import Message, Outcome, Received, RunContext, Settlement, SubscriberSpec
from squall.plugins.remote import target
from squall.plugins.remote.target import ServedTarget, _Client

pytestmark = pytest.mark.slow  # whole runs

RETRY = {"retry": {"attempts": 3, "base": "10ms", "cap": "10ms"}}


def scenario(**others: object) -> dict[str, object]:
    return {
        "version": 1,
        "name": "served",
        "target": "squall",
        "plugins": ["sqlite", RETRY],
        "subscribers": {"billing": {"pattern": "order.>", "durable": True, "concurrency": 4, "timeout": "1s"}},
        "load": {"stages": [{"for": "2s", "rate": 50}], "events": [{"type": "order.created", "key": {"count": 5}}]},
        "expect": ["no_loss", {"duplicates": {"max_ratio": 0}}, {"order": {"by": "key"}}],
    } | others


def figures(result: RunResult, name: str) -> Mapping[str, float]:
    return next(one.figures for one in result.verdict.findings if one.name == name)


async def test_a_calm_run_is_valid_and_its_settlements_are_confirmed(tmp_path: Path) -> None:
    """By the answer to a ping that was sent after them; so that a second delivery would need a reason."""
    result = await run(tmp_path, scenario())
    assert result.verdict.state == "valid", result.verdict
    assert figures(result, "no_loss")["acked"] == 100
    facts = json.loads((result.folder / "facts.json").read_text("utf-8"))
    assert (facts["durability"], facts["kept_by"]) == ("disk", "serve")
    with open_history(result.folder / "history") as db:
        assert db.execute("SELECT count(*) FROM attempt WHERE settle_ok IS NULL").fetchall() == [(0,)]
    assert (result.folder / "store" / "events.db").exists()


async def test_what_the_server_gives_up_is_a_dead_letter_and_no_loss(tmp_path: Path) -> None:
    """It is asked for its dead letters; each failed three times. There is no breaker, which would hold them back."""
    fault = {"id": "bad", "at": "0s", "for": "500ms", "do": "exception", "on": "handler:billing"}
    result = await run(tmp_path, scenario(faults=[fault]), "plugins: [retry]\n")
    assert result.verdict.state == "valid", result.verdict
    loss = figures(result, "no_loss")
    assert loss["dead_lettered"] > 5
    assert loss["acked"] + loss["dead_lettered"] == 100


async def test_who_takes_events_at_most_once_has_each_once(tmp_path: Path) -> None:
    """The server settles before it sends."""
    subscriber = {"pattern": "order.>", "durable": True, "delivery": "at-most-once", "timeout": "1s"}
    result = await run(tmp_path, scenario(subscribers={"billing": subscriber}))
    assert result.verdict.state == "valid", result.verdict
    assert figures(result, "no_loss")["acked"] == 100


async def test_who_comes_and_goes_is_owed_what_was_published_meanwhile(tmp_path: Path) -> None:
    """From the beginning, if it asks for that; durable or not. Faults may act on its connection from then on."""
    subscribers = {
        "billing": {"pattern": "order.>", "timeout": "1s", "durable": True, "leave": "1500ms"},
        "late": {"pattern": "order.>", "timeout": "1s", "durable": True, "join": "500ms", "start": "earliest"},
        "ticker": {"pattern": "order.>", "timeout": "1s", "join": "500ms", "leave": "1500ms"},
    }
    faults = [
        {"id": "slow", "at": "1s", "for": "500ms", "on": "net:serve-late", "do": "latency", "latency": "20ms"},
    ]
    result = await run(tmp_path, scenario(subscribers=subscribers, faults=faults))
    assert result.verdict.state == "valid", result.verdict
    with open_history(result.folder / "history") as db:
        assert db.execute("SELECT name, hits > 0 FROM fault").fetchall() == [("slow", True)]
        rows = db.execute(
            "SELECT s.name, count(*) FROM attempt JOIN subscription s USING (subscription) GROUP BY ALL"
        ).fetchall()
    got = dict(rows)
    assert got["late"] == 100
    assert got["ticker"] < got["billing"] < 100


async def test_the_operators_plugins_are_the_childs_and_its_secrets_are_not(tmp_path: Path) -> None:
    """What squall.yaml says of serve holds, but for where it listens and for whom; its data stay where they are."""
    yaml = (
        "plugins:\n  - sqlite: {path: data/theirs.db}\n  - rate_limit: {rate: 100000}\n"
        "  - serve: {port: 8787, token: 'file:secret', in_flight: 50}\n"
    )
    (tmp_path / "secret").write_text("a-token-of-the-operators", encoding="utf-8")
    result = await run(tmp_path, scenario(plugins=[]), yaml)
    assert result.verdict.state == "valid", result.verdict
    told = json.loads((result.folder / "serve.yaml").read_text("utf-8"))
    plugins = {name: options for one in told["plugins"] for name, options in one.items()}
    assert plugins["rate_limit"] == {"rate": 100000}
    assert plugins["serve"] == {"in_flight": 50, "token": "env:SQUALL_BENCH_TOKEN"}
    assert Path(plugins["sqlite"]["path"]).is_relative_to(result.folder.resolve())
    assert not (tmp_path / "data").exists()
    assert "a-token-of-the-operators" not in (result.folder / "serve.yaml").read_text("utf-8")


async def test_the_server_is_told_secrets_by_its_environment_alone(redis_server: Server, tmp_path: Path) -> None:
    """It logs in with the operator's password, which is in no file of the run, nor in what `ps` shows."""
    with redis.Redis(port=redis_server.port) as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">hunter22hunter", "~*", "&*", "+@all")
    url = redis_server.url.replace("redis://", "redis://app:hunter22hunter@")
    load = {"stages": [{"for": "500ms", "rate": 20}], "events": [{"type": "order.created"}]}
    wanted = scenario(plugins=[], load=load, expect=["no_loss"])
    yaml = f"plugins: [retry, {{redis: {{url: '{url}'}}}}]\nbench: {{allow_servers: [redis]}}\n"
    result = await run(tmp_path, wanted, yaml)
    assert result.verdict.state == "valid", result.verdict
    told = [path for path in result.folder.rglob("*") if path.is_file() and b"hunter22" in path.read_bytes()]
    assert told == []
    assert "SQUALL_SECRET_1" in (result.folder / "serve.yaml").read_text("utf-8")


class Confirmations:
    """A sink that notes what it is told of settlements."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def deliver(self, received: Received) -> None:
        self.told.append("delivered")

    def settling(self, payloads: Sequence[bytes], settlement: Settlement, invoked_ns: int) -> None:
        self.told.append(settlement)

    def settled(self, payloads: Sequence[bytes], ok_ns: int, answer: Literal["ok", "refused", "lost"] = "ok") -> None:
        self.told.append(answer)

    def gate_changed(self, gate: str, state: str) -> None:
        raise AssertionError("there is no gate")


@pytest.mark.parametrize("dies", [False, True])
async def test_a_settlement_is_confirmed_when_it_is_stored(dies: bool) -> None:
    """Not when the server has it in memory alone: one that dies then delivers the event again, rightly."""
    kept, sink = KeptMemory(SlowToSettle), Confirmations()
    async with Served(kept, clock=(clock := squall.VirtualClock())) as served:
        remote = squall.connect(f"http://127.0.0.1:{served.port}", clock=squall.SystemClock())
        client = _Client(remote, SubscriberSpec("billing", "order.>", durable=True), sink)
        await client.start()
        kept.store.refuse = True
        await served.router.publisher("shop").publish("order.created", b"")
        await until(lambda: sink.told == ["delivered", "ack"])
        for _ in range(20):
            assert await remote.flush()  # the server has received it
            await clock.advance(0.05)
        assert sink.told == ["delivered", "ack"]
        if dies:
            for connection in served.server.hub.connections:
                connection.close(1001, "gone")
        else:
            kept.store.refuse = False
            await clock.advance(1.5)
        await until(lambda: len(sink.told) > 2)
        assert sink.told[2] == ("lost" if dies else "ok")
        kept.store.refuse = False
        await client.stop()


async def test_what_was_settled_last_is_confirmed_before_a_subscriber_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a second delivery of it would have an excuse, and a run's last events an end that nobody knows."""
    monkeypatch.setattr(target, "CONFIRM_S", target.STOP_S / 2)  # so that it is not confirmed by the way before
    sink = Sink()
    async with Served() as served:
        url = f"http://127.0.0.1:{served.port}"
        client = _Client(squall.connect(url), SubscriberSpec("billing", ">"), sink)
        await client.start()
        async with squall.connect(url) as remote:
            await remote.publisher("shop").publish("a", b"last")
            await until(lambda: sink.asked == [("ack", b"last")])
            await client.stop()
        assert sink.answered == [b"last"]


class Dies(ServedTarget):
    """It is killed from outside, by nobody's fault, once the last event of the load is acknowledged."""

    async def publish(self, message: Message) -> Outcome:
        outcome = await super().publish(message)
        self.published = getattr(self, "published", 0) + 1
        if self.published == 100:
            os.kill(pid_of(self), signal.SIGKILL)
        return outcome


def pid_of(target: ServedTarget) -> int:
    pid = target._launched.process.pid
    assert pid is not None
    return pid


@pytest.mark.parametrize("plugins", [["sqlite"], []])
async def test_a_server_that_dies_by_itself_is_a_reason_of_the_verdict(tmp_path: Path, plugins: list[str]) -> None:
    """Nobody can be asked for dead letters any more: what seems lost may be one. The folder is whole all the same."""
    slow = {"pattern": "order.>", "durable": True, "timeout": "1s", "handler": {"latency": "200ms"}}
    drain = {"limit": "40s", "stall": "12s"}
    wanted = scenario(plugins=[*plugins, RETRY], subscribers={"billing": slow}, drain=drain)
    result = await run(tmp_path, wanted, "plugins: [retry]\n", {"squall": Dies})
    assert result.verdict.state == "unknown", result.verdict
    texts = [one.text for one in result.verdict.reasons]
    assert any("process:serve" in text and "ended by itself" in text for text in texts), texts
    assert any("the target's own word is missing" in text for text in texts), texts
    assert {"verdict.json", "report.html", "junit.xml", "facts.json"} <= {path.name for path in result.folder.iterdir()}
    with open_history(result.folder / "history") as db:
        (life,) = db.execute("SELECT exited IS NOT NULL, exit_code FROM process WHERE role = 'target'").fetchall()
    assert life == (True, -signal.SIGKILL)


async def test_what_fills_its_store_is_the_servers_own_word(tmp_path: Path) -> None:
    """The bench cannot see the store, which is in another process."""
    told: list[int | None] = []

    class Asked(ServedTarget):
        async def start(self, ctx: RunContext) -> None:
            await super().start(ctx)
            told.append(self.claims.max_events)

    for store in ({"memory": {"max_events": 7000}}, "sqlite"):
        await run(tmp_path, scenario(plugins=[store, RETRY]), "plugins: [retry]\n", {"squall": Asked})
    assert told == [7000, None]
