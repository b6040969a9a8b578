"""`squall heal`, and what comes of faults whose run is gone: killed, for example, while they stood."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.chaos.cli.command import CALM, child, finished, squall, write
from tests.chaos.cli.strangers import install
from tests.servers import Server, until

from squall.chaos.heal import heal
from squall.chaos.undo import Plan, save_undo
from squall.core.fault import Fault, Network, Undo
from squall.plugins.network.client import ProxyState, ToxiproxyClient

OUTSIDE = """\
from pathlib import Path
import squall
from squall.chaos.targets.in_process import InProcessTarget
from squall.core.fault import Evidence, Fault, Network

class OverALine(InProcessTarget):
    def seams(self):
        return {**super().seams(), "net:line": Network("net:line", "127.0.0.1", 1)}

class Cut(Fault):
    '''The line is cut: there is a file that says so, until it is healed. One called "stuck" forbids that.'''
    kind = Network
    name = "cut"
    folder: str

    def plan(self, seam):
        return {"folder": self.folder}

    async def start(self, seam, ctx):
        Path(self.folder, "cut").touch()

    async def evidence(self, seam):
        return Evidence(1, 1)

    @classmethod
    async def heal(cls, undo):
        if Path(undo["folder"], "stuck").exists():
            raise ConnectionError("nobody is there")
        Path(undo["folder"], "cut").unlink(missing_ok=True)

class Stranger(squall.Plugin):
    summary = "a line"

    @squall.hookimpl
    def squall_targets(self):
        return {"over-a-line": OverALine}

    @squall.hookimpl
    def squall_faults(self):
        return [Cut]
"""


ROOT = Path(__file__).resolve().parents[3]


class Cut(Fault):
    """What the plugin above has, for plans that tests write."""

    kind = Network
    name = "cut"


LONG = """\
version: 1
name: long
target: over-a-line
subscribers: {billing: {pattern: order.>}}
load: {stages: [{for: 300s, rate: 20}], events: [{type: order.created}]}
faults: [{id: outage, at: 0s, on: "net:line", FAULT}]
"""
"""Far longer than a test may take."""


@pytest.fixture
def line(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory in which the plugin is installed, for child processes too."""
    install(here, monkeypatch, OUTSIDE)
    return here


def left(line: Path, fault: str = "outage") -> Path:
    """A run that is gone while its fault stands; its plan."""
    folder = line / "runs" / "long" / "20260101-000000-abc123"
    write(folder / "environment.json", "{}")
    (line / "cut").touch()
    lease = save_undo(folder, fault, "net:line", Cut, {"folder": str(line)})
    lease.release()
    return lease.path


@contextmanager
def killed(line: Path, fault: str, *, after: Callable[[], bool], at_s: int = 0) -> Iterator[subprocess.Popen[str]]:
    """A run in a process of its own, once `after` holds; it is killed at the end."""
    write(line / "long.yaml", LONG.replace("FAULT", fault).replace("at: 0s", f"at: {at_s}s"))
    process = child(line, "run", "long.yaml", env={"PYTHONPATH": f"{line / 'site'}{os.pathsep}{ROOT}"})
    try:
        until("it is that far", lambda: after() or process.poll() is not None)
        assert process.poll() is None, finished(process)
        yield process
    finally:
        process.kill()
        finished(process)


def await_log(folder: Path, words: str) -> None:
    """What the watchdog says once it is done."""
    log = folder / "log.txt"
    until(f"{words} in log.txt", lambda: log.exists() and words in log.read_text("utf-8"))


@pytest.mark.slow
def test_a_run_that_is_killed_is_healed_by_its_watchdog(line: Path) -> None:
    """By kill -9, while its fault stands; the log of the run says so, and nothing is left."""
    cut = line / "cut"
    with killed(line, f"do: cut, folder: {line}", after=cut.exists) as process:
        (plan,) = line.glob("runs/long/2*/undo-outage.json")
        process.send_signal(signal.SIGKILL)
        until("it is healed", lambda: not cut.exists() and not plan.exists())
    await_log(plan.parent, "fault outage (cut on net:line): healed")
    assert squall("heal").out == "nothing was left to heal\n"


@pytest.mark.slow
def test_what_the_watchdog_cannot_heal_is_told_from_then_on_and_healed_by_hand(line: Path) -> None:
    """The next run and `squall doctor` say so; heal says why it fails, and later that it did not."""
    cut, stuck = line / "cut", write(line / "stuck", "")
    with killed(line, f"do: cut, folder: {line}", after=cut.exists) as process:
        (plan,) = line.glob("runs/long/2*/undo-outage.json")
        process.send_signal(signal.SIGKILL)
        await_log(plan.parent, "fault outage (cut on net:line): failed ConnectionError: nobody is there")
    name = f"long/{plan.parent.name}"
    assert f"{name} left fault outage behind" in " ".join(squall("doctor").out.split())
    said = squall("run", str(write(line / "calm.yaml", CALM)))
    assert said.code == 0, said.out
    assert f"{name} left fault outage behind (cut on net:line): squall heal {name}" in said.err
    assert squall("heal").code == 4
    stuck.unlink()
    assert squall("heal", "long").code == 0
    assert not cut.exists()
    assert "left fault" not in squall("doctor").out


@pytest.mark.slow
def test_a_run_that_goes_on_is_left_alone(line: Path) -> None:
    """It heals its faults itself: heal and doctor do not meddle, however often they are asked."""
    cut = line / "cut"
    with killed(line, f"do: cut, folder: {line}", after=cut.exists):
        for _ in range(2):
            said = squall("heal")
            assert said.code == 0
            assert "its run goes on, and heals it itself" in " ".join(said.out.split())
            assert json.loads(squall("doctor", "--json").out)["left"] == []
        assert cut.exists()


@pytest.fixture
def proxied(
    here: Path, monkeypatch: pytest.MonkeyPatch, toxiproxy_server: Server
) -> Callable[[], dict[str, ProxyState]]:
    """Runs go through a Toxiproxy server; what it has now."""
    body = "import squall\nfrom tests.chaos.line_target import LineTarget\nclass Stranger(squall.Plugin):\n"
    body += "    summary = 'a line'\n    @squall.hookimpl\n    def squall_targets(self):\n"
    body += "        return {'over-a-line': LineTarget}\n"
    install(here, monkeypatch, body)
    write(
        here / "squall.yaml",
        f"version: 1\nplugins: [network: {{toxiproxy: '127.0.0.1:{toxiproxy_server.port}'}}]\n",
    )
    client = ToxiproxyClient("127.0.0.1", toxiproxy_server.port)
    return lambda: asyncio.run(client.proxies())


@pytest.mark.slow
def test_nothing_in_a_toxiproxy_server_outlives_a_run_that_is_killed_under_a_fault(
    here: Path, proxied: Callable[[], dict[str, ProxyState]]
) -> None:
    """The watchdog takes the toxic away, and the proxy."""

    def bitten() -> bool:
        return any(proxy.toxics for proxy in proxied().values())

    with killed(here, "do: latency, latency: 10ms", after=bitten) as process:
        process.send_signal(signal.SIGKILL)
        until("the proxy is gone", lambda: not proxied())
    until("the plans are gone", lambda: squall("heal").out == "nothing was left to heal\n")


@pytest.mark.slow
def test_a_proxy_of_a_run_that_is_killed_before_its_faults_is_deleted_by_hand(
    here: Path, proxied: Callable[[], dict[str, ProxyState]]
) -> None:
    """No watchdog is there yet. A second run with its seed is not in its way."""
    for count in (1, 2):
        with killed(here, "do: latency, latency: 10ms", after=lambda n=count: len(proxied()) == n, at_s=200):  # type: ignore[misc]
            pass
    assert len(proxied()) == 2
    assert squall("doctor").out.count("a proxy for net:line") == 2
    said = squall("heal")
    assert (said.code, said.out.count("a proxy for net:line of long/")) == (0, 2), said.out
    assert proxied() == {}
    assert squall("heal").out == "nothing was left to heal\n"


def test_what_is_left_is_healed_once_and_asking_again_does_no_harm(line: Path) -> None:
    """Of one run, or of all."""
    plan = left(line)
    assert squall("heal", "long", "--json").code == 0
    assert not (line / "cut").exists()
    assert not plan.exists()
    assert squall("heal", "long").out == "nothing was left to heal\n"
    left(line)
    left(line, "again")
    said = json.loads(squall("heal", "--json").out)
    told = [(one["run"], one["fault"], one["what"], one["state"]) for one in said["faults"]]
    run = "long/20260101-000000-abc123"
    assert told == [(run, "again", "cut on net:line", "healed"), (run, "outage", "cut on net:line", "healed")]


@pytest.mark.slow  # processes
def test_what_fails_does_not_keep_the_others_from_being_healed(line: Path) -> None:
    """A damaged plan, one of a plugin that is not there any more, one of a server that does not answer: each is told
    with what to do, and stays."""
    left(line)
    folder = left(line, "well").parent
    write(folder / "undo-damaged.json", "{")
    gone = Plan(kind="network", do="gone", on="net:line", undo={})
    write(folder / "undo-gone.json", gone.model_dump_json())
    said = squall("heal")
    out = " ".join(said.out.split())
    assert said.code == 4
    assert "is no plan that squall wrote" in out
    assert "no plugin that is installed here has a fault gone in network" in out
    assert out.count("if there is nothing left to heal, remove") == 2
    assert sorted(path.name for path in folder.glob("undo-*")) == ["undo-damaged.json", "undo-gone.json"]
    doctor = " ".join(squall("doctor").out.split())
    assert doctor.count("left fault") == 2
    assert "damaged behind" in doctor


class Hangs(Cut):
    """Its heal does not end."""

    heal_s = 0.05

    @classmethod
    async def heal(cls, undo: Undo) -> None:
        await asyncio.Event().wait()


async def test_what_takes_too_long_is_told_so(line: Path) -> None:
    """As long as the fault itself says; and its plan stays."""
    plan = left(line)
    (done,) = await heal([plan.parent], {"network": {"cut": Hangs}})
    assert done.state == "failed"
    assert done.why.startswith("TimeoutError: it took longer than 0.05 s; if there is nothing left to heal, remove")
    assert plan.exists()


def test_a_run_that_is_named_must_be_there(line: Path) -> None:
    """Exit 2, as everywhere."""
    assert squall("heal", "nothing").code == 2
