"""Whole runs with faults in the network: a client, a server, and a proxy between them that the bench puts there."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.chaos import whole_run
from tests.chaos.line_target import LineTarget
from tests.servers import Server

from squall.chaos.check.facts import load_facts
from squall.chaos.history import open_history
from squall.chaos.run import RunResult
from squall.core.errors import ConfigError, SquallError
from squall.core.target import RunContext

Section = dict[str, object]

LATENCY: Section = {
    "id": "slow", "at": "200ms", "for": "300ms", "do": "latency", "on": "net:line", "latency": "5ms",
    "direction": "downstream",
}  # fmt: skip
DOWN: Section = {"id": "down", "at": "700ms", "for": "300ms", "do": "down", "on": "net:line"}
PARTED: Section = {"id": "parted", "at": "1200ms", "for": "300ms", "do": "partition", "on": "net:line"}


def scenario(*faults: Section, **others: object) -> Section:
    """A hundred events a second for two seconds, one subscriber, and these faults."""
    return {
        "version": 1,
        "name": "line",
        "target": "line",
        "seed": 3,
        "subscribers": {"reader": {"pattern": ">"}},
        "load": {"stages": [{"for": "2s", "rate": 100}], "events": [{"type": "order.created"}]},
        "faults": list(faults),
        "drain": {"limit": "10s", "stall": "2s"},
        "expect": ["no_loss", "no_phantom", "no_ghost"],
    } | others


async def run(folder: Path, sections: Section, yaml: str = "", target: type[LineTarget] = LineTarget) -> RunResult:
    return await whole_run.run(folder, sections, yaml, {"line": target})


def faults_of(result: RunResult) -> dict[str, tuple[int, int, bool, str | None]]:
    """What each fault did: what passed, what was bitten, whether it is healed, and what went wrong."""
    with open_history(result.folder / "history") as db:
        rows = db.execute("SELECT name, passes, hits, healed, error FROM fault").fetchall()
    return {name: (passes, hits, healed, error) for name, passes, hits, healed, error in rows}


def check_bitten_and_healed(result: RunResult) -> None:
    found = faults_of(result)
    assert set(found) == {"slow", "down", "parted"}
    for name, (passes, hits, healed, error) in found.items():
        assert hits > 0, f"{name} did not bite"
        assert passes > 0 or name == "down", name
        assert (healed, error) == (True, None), name
    assert list(result.folder.glob("undo-*")) == []
    assert result.verdict.state == "valid", result.verdict


@pytest.mark.slow  # a whole run
async def test_faults_in_the_network_bite_and_are_healed(tmp_path: Path) -> None:
    """Through the embedded proxy, without a word in squall.yaml: nothing that was acknowledged is lost."""
    check_bitten_and_healed(await run(tmp_path, scenario(LATENCY, DOWN, PARTED)))


@pytest.mark.slow  # a whole run
async def test_a_toxiproxy_server_bites_alike(tmp_path: Path, toxiproxy_server: Server) -> None:
    """The operator's, named in squall.yaml; afterwards it has no proxy of squall's any more."""
    yaml = f"plugins: [network: {{toxiproxy: '127.0.0.1:{toxiproxy_server.port}'}}]\n"
    check_bitten_and_healed(await run(tmp_path, scenario(LATENCY, DOWN, PARTED), yaml))
    from squall.plugins.network.client import ToxiproxyClient

    assert await ToxiproxyClient("127.0.0.1", toxiproxy_server.port).proxies() == {}


@pytest.mark.slow  # a whole run
async def test_a_fault_on_the_way_to_the_operators_own_server_is_named(redis_server: Server, tmp_path: Path) -> None:
    """Behind it what was acknowledged is kept, so what stood still is told with its name."""
    yaml = f"plugins: [retry, {{redis: {{url: '{redis_server.url}'}}}}]\nbench: {{allow_servers: [redis]}}\n"
    cut: Section = {"id": "cut", "at": "500ms", "for": "1s", "do": "partition", "on": "net:redis"}
    result = await whole_run.run(tmp_path, scenario(cut, target="in-process", drain={}), yaml)
    assert (load_facts(result.folder).kept_by, faults_of(result)["cut"][2:]) == ("redis", (True, None))
    told = [note.text for note in result.verdict.notes if note.code == "stall"]
    assert any(one.endswith("redis, or the network to it, did not answer, under cut") for one in told), told


@pytest.mark.slow  # a whole run
async def test_a_loss_behind_a_network_fault_is_found(tmp_path: Path) -> None:
    """A client that says ok without an answer: the verdict is invalid."""

    class Hopeful(LineTarget):
        async def publish(self, message: object) -> object:  # type: ignore[override]
            outcome = await super().publish(message)  # type: ignore[arg-type]
            return outcome._replace(state="ok")

    result = await run(tmp_path, scenario({**DOWN, "at": "500ms", "for": "1s"}), target=Hopeful)
    assert result.verdict.state == "invalid"
    assert faults_of(result)["down"][1] > 0


@pytest.mark.slow  # a whole run
async def test_a_fault_where_nothing_passes_is_unknown(tmp_path: Path) -> None:
    """A target that asked for the detour and never took it."""

    class Elsewhere(LineTarget):
        async def start(self, ctx: RunContext) -> None:
            await super().start(ctx)
            self._port = self.server.port

    result = await run(tmp_path, scenario(LATENCY), target=Elsewhere)
    assert result.verdict.state == "unknown"
    assert faults_of(result)["slow"][:2] == (0, 0)


@pytest.mark.slow  # a whole run
async def test_without_a_fault_there_the_target_connects_straight(tmp_path: Path) -> None:
    """No proxy, and no cost."""
    ways = []

    class Straight(LineTarget):
        async def start(self, ctx: RunContext) -> None:
            await super().start(ctx)
            ways.append(self._port == self.server.port)

    await run(tmp_path, scenario(), target=Straight)
    await run(tmp_path, scenario(LATENCY), target=Straight)
    assert ways == [True, False]


async def test_a_seam_that_the_target_does_not_have_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fault slow: the target has no seam 'net:redis' for latency"):
        await run(tmp_path, scenario({**LATENCY, "on": "net:redis"}))


async def test_one_name_for_two_addresses_is_told(tmp_path: Path) -> None:
    """Two parts cannot share a proxy."""

    class Torn(LineTarget):
        async def start(self, ctx: RunContext) -> None:
            await ctx.detour("line", "127.0.0.1", 1)
            await super().start(ctx)

    with pytest.raises(ConfigError, match="connects to two addresses as 'line'"):
        await run(tmp_path, scenario(LATENCY), target=Torn)


async def test_a_server_that_is_not_there_ends_the_run_before_it_begins(tmp_path: Path) -> None:
    """And no run folder is left behind."""
    with pytest.raises(SquallError, match=r"Toxiproxy at 127\.0\.0\.1:1: .* is it running"):
        await run(tmp_path, scenario(LATENCY), "plugins: [network: {toxiproxy: '127.0.0.1:1'}]\n")
    assert [path for path in (tmp_path / "runs").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"latncy": "20ms"}, "'latncy' is not an option of the fault latency .*did you mean 'latency'"),
        ({"latency": "20"}, "latency: expected a duration such as 100ms"),
        ({"latency": "0.5ms"}, "latency: expected whole milliseconds"),
        ({"direction": "sideways"}, "direction: expected 'upstream', 'downstream' or 'both', got 'sideways'"),
        ({"toxicity": 2}, "toxicity: expected at most 1, got 2"),
        ({"probability": 0.5}, "the fault latency does not act on calls one by one.*say toxicity"),
        ({"do": "latncy"}, "there is no fault 'latncy' in network .*did you mean 'latency'"),
        ({"on": "nt:line"}, "there are no faults for 'nt' .*did you mean 'net'"),
        ({"do": "slow", "by": "1s"}, "there is no fault 'slow' in network .*it acts in handler, storage"),
    ],
)
async def test_mistakes_are_told_before_anything_starts(tmp_path: Path, fault: Section, said: str) -> None:
    """With what may have been meant."""
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        await run(tmp_path, scenario(LATENCY | fault))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"do": "bandwidth", "rate": "1500B"}, "expected whole kilobytes per second such as 100KB"),
        ({"do": "slicer", "average_size": "10B", "size_variation": "10B"}, "size_variation: expected less than"),
        ({"do": "slicer", "average_size": "10B", "delay": "1ns"}, "expected whole microseconds"),
        ({"do": "down", "direction": "upstream"}, "'direction' is not an option of the fault down"),
    ],
)
async def test_mistakes_of_other_faults_are_told(tmp_path: Path, fault: Section, said: str) -> None:
    base: Section = {"id": "x", "at": "0s", "for": "1s", "on": "net:line"}
    with pytest.raises(ConfigError, match=said):
        await run(tmp_path, scenario(base | fault))


async def test_the_operator_may_refuse_faults_in_the_network(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"faults in network are not allowed here; bench\.allow_faults: handler"):
        await run(tmp_path, scenario(LATENCY), "bench: {allow_faults: [handler]}\n")


async def test_a_scenario_cannot_name_the_server(tmp_path: Path) -> None:
    """It is the less trusted file."""
    elsewhere = {"plugins": [{"network": {"toxiproxy": "elsewhere:8474"}}]}
    with pytest.raises(ConfigError, match=r"network are the operator's to say .*list it in squall\.yaml"):
        await run(tmp_path, scenario(LATENCY, **elsewhere))
