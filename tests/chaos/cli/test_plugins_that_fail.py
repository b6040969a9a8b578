"""A plugin that is wired and raises later: the run goes on to its verdict, and the log says what was raised."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.chaos.cli.command import CALM, Said, squall, write
from tests.chaos.cli.strangers import hook, install, plugin

pytestmark = pytest.mark.slow  # whole runs

RAISER = "def raises(*arguments):\n    raise ValueError('out of luck')\n"
OBSERVER = """
class Watcher(squall.Observer):
    def attempted(self, *arguments): raises()
    def published(self, *arguments): raises()
"""
GATE = """
class Stuck:
    longest_wait_s = 0.0
    def try_acquire(self, n): raises()
    def record(self, permits, attempts): raises()
    def release(self, permits, n): raises()
"""
POLICY = """
class Undecided:
    longest_delay_s = 0.0
    max_attempts = None
    def decide(self, delivery, error): raises()
"""


def ran(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> tuple[Said, str]:
    """The calm scenario with this plugin: what was said, and the run's log."""
    install(folder, monkeypatch, body)
    calm = CALM.replace('{pattern: ">"}', '{pattern: ">", timeout: 1s}')
    write(folder / "s.yaml", calm + "drain: {limit: 8s, stall: 3s}\n")
    write(folder / "squall.yaml", "version: 1\nplugins: [stranger]\n")
    said = squall("run", "s.yaml")
    assert "Traceback" not in said.err + said.out
    assert "not foreseen" not in said.err
    assert said.code not in (2, 4), said.err
    (run,) = folder.glob("runs/calm/2*")
    log = run / "log.txt"
    return said, log.read_text("utf-8") if log.exists() else ""


@pytest.mark.parametrize("shape", ["guard", "around"])
def test_publish_middleware_that_raises_refuses_every_event(
    here: Path, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    """Nothing was acknowledged, so nothing is known: exit 3."""
    function = "raises" if shape == "guard" else "araises"
    before = RAISER + "async def araises(event, following):\n    raises()\n"
    body = plugin(
        hook("squall_publish_middleware", f"return squall.{shape}({function}, stage='validate')"), before=before
    )
    said, _ = ran(here, monkeypatch, body)
    assert said.code == 3
    assert "UNKNOWN" in said.out


@pytest.mark.parametrize("shape", ["guard", "around"])
def test_deliver_middleware_that_raises_fails_every_attempt(
    here: Path, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    """Each event ends in the dead letters, and none is lost."""
    function = "raises" if shape == "guard" else "araises"
    before = RAISER + "async def araises(event, following):\n    raises()\n"
    body = plugin(
        hook("squall_deliver_middleware", f"return squall.{shape}({function}, stage='handler')"), before=before
    )
    said, _ = ran(here, monkeypatch, body)
    assert "40 dead-lettered" in said.out, said.out


def test_an_observer_that_raises_is_logged_and_the_run_goes_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never the event's problem."""
    body = plugin(hook("squall_observer", "return Watcher()"), before=RAISER + OBSERVER)
    said, log = ran(here, monkeypatch, body)
    assert said.code == 0, said.out
    assert "out of luck" in log
    assert "log.txt (" in said.out


def test_a_gate_that_raises_is_logged_and_comes_to_a_verdict(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It permits nothing, so the target stands still though it is healed: exit 1."""
    body = plugin(hook("squall_gate", "return Stuck()"), before=RAISER + GATE)
    said, log = ran(here, monkeypatch, body)
    assert said.code == 1
    assert "no progress" in said.out
    assert "out of luck" in log


def test_a_settle_policy_that_raises_loses_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed delivery ends in the dead letters."""
    failing = hook("squall_deliver_middleware", "return squall.guard(raises, stage='handler')")
    body = plugin(hook("squall_settle_policy", "return Undecided()"), failing, before=RAISER + POLICY)
    said, log = ran(here, monkeypatch, body)
    assert "40 dead-lettered" in said.out, said.out
    assert "out of luck" in log


def test_a_store_that_raises_on_append_acknowledges_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 3: no publish was ever acknowledged."""
    body = plugin(hook("squall_store_wrapper", "store.append = raises", "return store"), before=RAISER)
    said, _ = ran(here, monkeypatch, body)
    assert said.code == 3
    assert "UNKNOWN" in said.out


def test_a_plugin_that_would_end_the_process_cannot_choose_the_verdict(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 4, and what it raised: 0 would say valid."""
    ends = "def ends(event):\n    raise SystemExit(0)\n"
    install(
        here,
        monkeypatch,
        plugin(hook("squall_publish_middleware", "return squall.guard(ends, stage='validate')"), before=ends),
    )
    write(here / "s.yaml", CALM)
    write(here / "squall.yaml", "version: 1\nplugins: [stranger]\n")
    said = squall("run", "s.yaml")
    assert (said.code, said.out) == (4, "")
    assert "code that was run ended the process: SystemExit(0)" in said.err
