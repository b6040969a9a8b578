"""A scenario's `handler: {call: shop}` runs the operator's own code, found beside squall.yaml."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.chaos.cli.command import CALM, child, finished, squall, write

pytestmark = pytest.mark.slow  # whole runs

CALLING = CALM.replace('{pattern: ">"}', '{pattern: ">", handler: {call: shop}, timeout: 1s}')
CODE = """\
from pathlib import Path

async def handle(payload):
    with Path(__file__).with_name("handled").open("a") as file:
        file.write(f"{len(payload)}\\n")

def plainly(payload):
    with Path(__file__).with_name("handled").open("a") as file:
        file.write(f"{len(payload)}\\n")

def without():
    pass

async def stream(payload):
    yield payload

VALUE = 5
"""


@pytest.fixture
def shop(here: Path, request: pytest.FixtureRequest) -> Path:
    """A folder of the operator's with a module of a name that no other test imports."""
    name = f"code_{abs(hash(request.node.name))}"
    write(here / "op" / f"{name}.py", CODE)
    write(here / "scenario.yaml", CALLING)
    return here / "op" / f"{name}.py"


def configured(shop: Path, reference: str) -> list[str]:
    """The arguments that run the scenario with this handler."""
    write(shop.parent / "squall.yaml", f'version: 1\nhandlers:\n  shop: "{reference}"\nplugins: [retry]\n')
    return ["run", "scenario.yaml", "--config", "op/squall.yaml", "--runs", "runs"]


@pytest.mark.parametrize("function", ["handle", "plainly"])
def test_the_operators_code_is_called_with_each_payload(shop: Path, function: str) -> None:
    """A module beside squall.yaml, wherever the command is run; the path for imports is as before afterwards."""
    before = list(sys.path)
    said = squall(*configured(shop, f"{shop.stem}:{function}"))
    assert said.code == 0, said.err + said.out
    assert shop.with_name("handled").read_text("utf-8").splitlines() == ["200"] * 40
    assert sys.path == before


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        ("nowhere:handle", "cannot import nowhere: there is no such module"),
        ("{}:handel", "has no handel, did you mean 'handle'?"),
        ("{}:VALUE", "is int, not a function"),
        ("{}", "expected 'package.module:function'"),
        ("broken:handle", "cannot import broken: ZeroDivisionError: division by zero"),
        ("{}:without", "cannot be called with a payload: too many positional arguments"),
        ("{}:stream", "yields: nothing of it would run when it is called"),
        ("exits:handle", "cannot import exits: SystemExit: 0"),
    ],
)
def test_code_that_is_not_there_is_told_at_its_place(shop: Path, here: Path, reference: str, complaint: str) -> None:
    """Exit 2, file and line, what is missing; nothing was started and no run folder is left."""
    write(shop.parent / "broken.py", "1 / 0\n")
    write(shop.parent / "exits.py", "raise SystemExit(0)\n")
    arguments = configured(shop, reference.format(shop.stem))
    assert squall("validate", *arguments[1:-2]).code == 2
    said = squall(*arguments)
    assert said.code == 2
    assert said.err.startswith("op/squall.yaml:3:")
    assert complaint in said.err
    assert said.err.rstrip().endswith("1 error, nothing was started")
    assert not (here / "runs").exists()


def test_code_is_looked_for_before_the_first_of_several_runs(shop: Path, here: Path) -> None:
    """What the second scenario lacks stops the first one too."""
    write(here / "calm.yaml", CALM)
    said = squall("run", "calm.yaml", *configured(shop, "nowhere:handle")[1:])
    assert said.code == 2
    assert said.err.rstrip().endswith("1 error, nothing was started")
    assert not (here / "runs").exists()


def test_a_name_that_squall_yaml_does_not_give_is_told_in_the_scenario(shop: Path) -> None:
    """Which handlers there are."""
    write(shop.parent / "squall.yaml", 'version: 1\nhandlers: {shpo: "a:b"}\n')
    said = squall("validate", "scenario.yaml", "--config", "op/squall.yaml")
    assert said.code == 2
    assert "scenario.yaml:4:" in said.err
    assert "there is no handler 'shop'" in said.err
    assert "did you mean 'shpo'?" in said.err


SWALLOWING = """\
import asyncio

async def handle(payload):
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
"""


def test_code_that_swallows_its_cancellation_does_not_keep_the_run(shop: Path, here: Path) -> None:
    """Its deliveries are given up at their timeout; the run ends with a verdict; who is healthy beside it is well."""
    shop.write_text(SWALLOWING, encoding="utf-8")
    text = CALLING.replace("timeout: 1s}}", "timeout: 100ms}, well: {pattern: '>', timeout: 1s}}").replace(
        "[no_loss]", "[{latency: {max: 5s, subscribers: [well]}}]"
    )
    write(here / "scenario.yaml", text + "plugins: [{retry: {attempts: 1}}]\ndrain: {limit: 4s, stall: 2s}\n")
    said = finished(child(here, *configured(shop, f"{shop.stem}:handle")))
    assert said.code in (1, 3), said.err
    assert "latency max of well ✓" in " ".join(said.out.split())
    assert "Traceback" not in said.err
    assert "was destroyed" not in said.err


@pytest.mark.parametrize("ends", ["raise SystemExit(0)", "import sys; sys.exit(3)", "raise KeyboardInterrupt"])
def test_code_that_would_end_the_process_is_the_subscribers_failure(shop: Path, here: Path, ends: str) -> None:
    """It cannot choose the exit code, which is the verdict's."""
    shop.write_text(f"async def handle(payload):\n    {ends}\n", encoding="utf-8")
    write(here / "scenario.yaml", CALLING.replace("subscribers", "plugins: [{retry: {attempts: 1}}]\nsubscribers"))
    said = squall(*configured(shop, f"{shop.stem}:handle"))
    assert "40 owed · 0 acked · 40 dead-lettered" in said.out, said.err


def test_code_that_raises_is_the_subscribers_failure(shop: Path, here: Path) -> None:
    """It fails deliveries, not the run: they end in the dead letters. The first error is in the run's log, once: what
    the router says of each failed attempt is not."""
    shop.write_text("def handle(payload):\n    raise ValueError('no')\n", encoding="utf-8")
    write(here / "scenario.yaml", CALLING.replace("subscribers", "plugins: [{retry: {attempts: 1}}]\nsubscribers"))
    said = squall(*configured(shop, f"{shop.stem}:handle"))
    assert said.code == 0, said.out
    assert " failed: " not in said.err
    assert "40 owed · 0 acked · 40 dead-lettered" in said.out
    assert "log.txt (1 warning)" in said.out
    (line,) = next(here.glob("runs/calm/2*/log.txt")).read_text("utf-8").splitlines()
    assert "its handler shop raised ValueError: no" in line
    assert f"{shop.name}:2, in handle)" in line


def test_what_faults_raise_is_no_warning(shop: Path, here: Path) -> None:
    """Handlers are to fail by them: it is the verdict that judges what becomes of it."""
    fault = "faults: [{id: x, at: 0s, for: 200ms, do: exception, on: 'handler:all'}]\n"
    write(here / "scenario.yaml", CALLING.replace("load:", f"plugins: [{{retry: {{attempts: 1}}}}]\n{fault}load:"))
    said = squall(*configured(shop, f"{shop.stem}:handle"))
    assert "dead-lettered" in said.out, said.err
    assert " failed: " not in said.err
    assert "log.txt" not in said.out
