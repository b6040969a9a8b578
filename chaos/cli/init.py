"""`squall init`: a squall.yaml and a first scenario, which run as they are."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from squall.chaos.cli.guard import DebugOption, JsonOption, guarded

CONFIG = """\
# What is yours to decide: which plugins are enabled, what scenarios may do. Read by every squall command that is run
# in this folder, and by EventRouter.from_config("squall.yaml").
version: 1

plugins:                       # listed = enabled; `squall plugins` shows what is installed and how it composes
  - sqlite: {path: data/squall.db, durability: disk}     # a scenario never touches this file: it has its own
  - retry: {attempts: 8, base: 50ms, cap: 1s}
  - breaker
  - metrics

# handlers:                    # your own code, for scenarios to name: `handler: {call: shop}`
#   shop: "shop:on_order"      # shop.py in this folder: async def on_order(payload: bytes) -> None

bench:
  runs: runs                   # one folder a run
  allow_faults: [handler, storage]
  limits: {rate: 20000, duration: 10m}
"""

SCENARIO = """\
# Billing's handler fails one time in five for two seconds, and the store refuses writes for one. Every acknowledged
# event must still end: handled, or in the dead letters. Change something and run it again.
version: 1
name: first
about: Billing fails, the store refuses writes; no acknowledged event may be lost.
seed: 42
vars: {rate: 500}              # squall run scenarios/first.yaml --set rate=2000
subscribers:
  billing: {pattern: order.>, durable: true, concurrency: 8, timeout: 1s, handler: {latency: 1ms}}
  audit: {pattern: "*.created"}
steady:                        # must hold before anything is broken, or the verdict says nothing
  for: 1s
  expect: [{latency: {p99: 500ms}}]
load:
  stages: [{for: 8s, rate: "${rate}"}]
  events:
    - {type: order.created, weight: 3, key: {count: 50}}
    - {type: order.paid, priority: HIGH}
faults:
  - {id: outage, at: 1s, for: 2s, do: exception, on: "handler:billing", probability: 0.2}
  - {id: refuse, at: 5s, for: 1s, do: refuse, on: "storage:events"}
expect:
  - no_loss
  - order: {by: key}
  - duplicates: {max_ratio: 0}
  - recovery: {of: outage, within: 10s}
"""

FILES = {"squall.yaml": CONFIG, "scenarios/first.yaml": SCENARIO}


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="where; made if it is not there")] = Path(),
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a squall.yaml and a first scenario. Nothing is overwritten.

    \b
    Example:
      squall init shop
      squall init shop --json
    """

    def work() -> int:
        from squall.core.errors import ConfigError, Problem

        there = [path for name in FILES if (path := folder / name).exists() or path.is_symlink()]
        if there:
            raise ConfigError([Problem(str(path), "is there already; nothing was written") for path in there])
        for name, text in FILES.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        written = [folder / name for name in FILES]
        if as_json:
            from squall.chaos.cli.output import print_json

            print_json({"exit_code": 0, "written": written})
            return 0
        for path in written:
            typer.echo(f"wrote    {path}")
        go = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
        typer.echo(f"\nnext     {go}squall validate scenarios/first.yaml\n         {go}squall run scenarios/first.yaml")
        return 0

    guarded(work, as_json=as_json, debug=debug)
