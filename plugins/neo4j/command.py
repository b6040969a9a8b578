"""`squall flow`: questions to the graph, from the command line."""

from __future__ import annotations

import asyncio
import enum
import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from squall.core.clock import SystemClock
from squall.core.config import Config, load_config
from squall.core.errors import ConfigError
from squall.core.units import parse_seconds
from squall.plugins.neo4j import flow as questions
from squall.plugins.neo4j.options import Neo4jOptions

if TYPE_CHECKING:
    from squall.plugins.neo4j.graph import Graph

CONFIG = Path("squall.yaml")


class Question(enum.StrEnum):
    """What can be asked."""

    RECEIVERS = "receivers"
    DEPENDENTS = "dependents"
    CHANGES = "changes"
    DEAD_ENDS = "dead-ends"
    CYCLES = "cycles"


ABOUT = {Question.DEPENDENTS: "a service's name", Question.CHANGES: "how long ago (2h), or a time (2026-01-31T12:00)"}
"""What must be named besides the question."""


def flow(
    question: Annotated[Question, typer.Argument(help="what to ask")],
    about: Annotated[
        str | None,
        typer.Argument(help="receivers: a topic, or all; dependents: a service; changes: since when, 2h or a time"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="the operator's file, instead of ./squall.yaml")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document on stdout, for programs")] = False,
) -> int:
    """Ask the graph who sends what to whom.

    receivers: who receives what. dependents: what depends on a service. changes: what was done, and which flows are
    new, since then. dead-ends: topics nobody receives, subscriptions that never got anything. cycles: ways that events
    can go round.

    \b
    Example:
      squall flow receivers order.created
      squall flow changes 2h --json
    """
    if question in ABOUT and about is None:
        raise ConfigError(f"flow {question.value}: expected {ABOUT[question]}")
    rows = asyncio.run(_ask(_options(config), question, about))
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())  # noqa: T201  what was asked for
    else:
        _show(rows)
    return 0


def since(text: str, now: datetime) -> datetime:
    """A time from `2h`, which is so long before now, or from a time in ISO 8601, UTC where it says no zone. Raises
    ConfigError."""
    try:
        return datetime.fromtimestamp(now.timestamp() - parse_seconds(text), UTC)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"flow changes: expected {ABOUT[Question.CHANGES]}, got {text!r:.80}") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _options(config: Path | None) -> Neo4jOptions:
    """The neo4j section of the operator's file, or the defaults. Raises ConfigError."""
    settings = Config() if config is None and not os.path.lexists(CONFIG) else load_config(config or CONFIG)
    for section in settings.plugins or ():
        if section.name == "neo4j":
            return section.options(Neo4jOptions)
    return Neo4jOptions()


async def _ask(options: Neo4jOptions, question: Question, about: str | None) -> Sequence[dict[str, object]]:
    try:
        from squall.plugins.neo4j.graph import Graph
    except ModuleNotFoundError as error:
        raise ConfigError(f"flow needs {error.name}: pip install 'squall[neo4j]'") from error
    graph = Graph(options)
    try:
        return await _answer(graph, question, about or "")
    finally:
        await graph.close()


async def _answer(graph: Graph, question: Question, about: str) -> Sequence[dict[str, object]]:
    if question is Question.CYCLES:
        return [{"path": list(ring)} for ring in await questions.cycles(graph)]
    if question is Question.RECEIVERS:
        return [asdict(row) for row in await questions.receivers(graph, about or None)]
    if question is Question.DEPENDENTS:
        return [asdict(row) for row in await questions.dependents(graph, about)]
    if question is Question.CHANGES:
        now = datetime.fromtimestamp(SystemClock().time_ns() / 1e9, UTC)
        return [asdict(row) for row in await questions.changes(graph, since(about, now))]
    return [asdict(row) for row in await questions.dead_ends(graph)]


def _show(rows: Sequence[dict[str, object]]) -> None:
    console = Console()
    if not rows:
        console.print("none")
        return
    table = Table(box=None, pad_edge=False)
    for heading in rows[0]:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(_text, row.values()))
    console.print(table)


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, list | tuple):
        return " → ".join(map(str, value))
    return "" if value is None else str(value)
