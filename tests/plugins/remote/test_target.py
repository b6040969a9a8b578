"""`squall serve` as a target: what it claims, what it tells of deliveries, and what becomes of them at its end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import redis
from tests.servers import Server

from squall.chaos.catalogue import load_catalogue
from squall.chaos.history import open_history
from squall.chaos.run import RunResult, run_scenario
from squall.chaos.scenario import load_scenario
from squall.core.config import Config, load_config

Section = Mapping[str, object]


def scenario(**others: object) -> dict[str, object]:
    return {
        "version": 1,
        "name": "served",
        "target": "squall",
        "plugins": ["sqlite", {"retry": {"attempts": 3, "base": "10ms", "cap": "10ms"}}],
        "subscribers": {"billing": {"pattern": "order.>", "durable": True, "concurrency": 4, "timeout": "1s"}},
        "load": {"stages": [{"for": "2s", "rate": 50}], "events": [{"type": "order.created", "key": {"count": 5}}]},
        "expect": ["no_loss", {"duplicates": {"max_ratio": 0}}, {"order": {"by": "key"}}],
    } | others


async def run(folder: Path, sections: Section, yaml: str = "") -> RunResult:
    (folder / "squall.yaml").write_text("version: 1\n" + yaml, encoding="utf-8")
    config: Config = load_config(folder / "squall.yaml")
    catalogue = load_catalogue()
    path = folder / "served.yaml"
    path.write_text(json.dumps(sections), encoding="utf-8")
    return await run_scenario(load_scenario(path, config=config, known=catalogue.known(config)), config, catalogue)


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
    """From the beginning, if it asks for that; durable or not."""
    subscribers = {
        "billing": {"pattern": "order.>", "timeout": "1s", "durable": True, "leave": "1500ms"},
        "late": {"pattern": "order.>", "timeout": "1s", "durable": True, "join": "500ms", "start": "earliest"},
        "ticker": {"pattern": "order.>", "timeout": "1s", "join": "500ms", "leave": "1500ms"},
    }
    result = await run(tmp_path, scenario(subscribers=subscribers))
    assert result.verdict.state == "valid", result.verdict
    with open_history(result.folder / "history") as db:
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
    result = await run(tmp_path, wanted, f"plugins: [retry, {{redis: {{url: '{url}'}}}}]\n")
    assert result.verdict.state == "valid", result.verdict
    told = [path for path in result.folder.rglob("*") if path.is_file() and b"hunter22" in path.read_bytes()]
    assert told == []
    assert "SQUALL_SECRET_1" in (result.folder / "serve.yaml").read_text("utf-8")
