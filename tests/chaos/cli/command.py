"""The command line as the tests call it: in this process for its words, in a child where signals or plugins matter."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from squall.chaos.cli import app

# A tenth of a second of load, and a subscriber that loses what its workers crash on.
LOSS = """\
version: 1
name: loss
about: An at-most-once subscriber whose workers crash.
seed: 3
subscribers:
  billing: {pattern: order.>, delivery: at-most-once, concurrency: 2}
load:
  stages: [{for: 400ms, rate: 500}]
  events: [{type: order.created, key: {count: 10}}]
faults:
  - {id: crash, at: 100ms, for: 200ms, do: crash, on: "handler:billing", probability: 0.2}
expect: [no_loss]
"""

CALM = """\
version: 1
name: calm
about: Nothing is broken.
subscribers: {all: {pattern: ">"}}
load: {stages: [{for: 200ms, rate: 200}], events: [{type: a.b, key: {count: 5}}]}
expect: [no_loss]
"""


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


def squall(*arguments: str, env: dict[str, str] | None = None) -> Said:
    """Run a command in this process and working directory."""
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "100", **(env or {})})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Said(result.exit_code, result.stdout, result.stderr)


def child(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a command as a process of its own, in folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "squall", *arguments],
        cwd=folder,
        env=os.environ | {"COLUMNS": "100"} | (env or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str], timeout_s: float = 60.0) -> Said:
    """Wait for it; kill it and fail where it does not end."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"still running after {timeout_s:g} s\n{out}\n{err}")
    return Said(process.returncode, out, err)


def write(path: Path, text: str) -> Path:
    """A file with this text, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# A handler that says when it was called for the COUNTth time.
_HANDLER = """\
import asyncio, sys, time
calls = 0
async def handle(payload):
    global calls
    calls += 1
    if calls == COUNT:
        print("handled", file=sys.stderr, flush=True)
    DO
"""


def in_its_midst(
    folder: Path, verb: str, scenario: str, *options: str, do: str = "await asyncio.sleep(0)", count: int
) -> subprocess.Popen[str]:
    """A command on this scenario, long.yaml, as a process of its own that goes on: its handler `shop` was called
    `count` times, and does `do` each time."""
    write(folder / "shop.py", _HANDLER.replace("COUNT", str(count)).replace("DO", do))
    write(folder / "squall.yaml", 'version: 1\nhandlers: {shop: "shop:handle"}\n')
    process = child(folder, verb, str(write(folder / "long.yaml", scenario)), *options)
    try:
        await_line(process, "handled")
    except AssertionError:
        process.kill()
        process.communicate()
        raise
    return process


def await_line(process: subprocess.Popen[str], words: str, timeout_s: float = 60.0) -> str:
    """What the process says on stderr up to the line with these words. Unbuffered: nothing may be read ahead."""
    assert process.stderr is not None
    said = b""
    while words.encode() not in said:
        ready, _, _ = select.select([process.stderr], [], [], timeout_s)
        assert ready, f"no {words!r} in {timeout_s:g} s: {said.decode()}"
        part = os.read(process.stderr.fileno(), 65536)
        assert part, f"it ended without {words!r}: {said.decode()}"
        said += part
    return said.decode()
