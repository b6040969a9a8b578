"""Dead letters of a running `squall serve`: listed, shown, and given back after a dry run."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, cast, get_args

import msgspec
import typer

from squall.core.errors import ConfigError, OutdatedToken, SquallError, SubscriptionError
from squall.core.redrive import DeadLetterQuery
from squall.core.store import DeadReason
from squall.plugins.serve import ServePlugin
from squall.plugins.serve.asking import CONFIG, NotThere, Server
from squall.plugins.serve.letters import Letter, Page, Plan, Redrive, Redriven, WholeLetter

__all__ = ["ServePlugin", "dlq"]  # the command's entry point names the plugin here, so that the page above is its help

NOT_DONE = 1


class Action(enum.StrEnum):
    """What can be done."""

    LIST = "list"
    SHOW = "show"
    REDRIVE = "redrive"


def dlq(
    action: Annotated[Action, typer.Argument(help="what to do")],
    seqs: Annotated[list[int] | None, typer.Argument(metavar="SEQ", help="only these events, by their seq")] = None,
    subscription: Annotated[str | None, typer.Option(metavar="NAME", help="only this subscription's")] = None,
    reason: Annotated[
        str | None, typer.Option(metavar="REASON", help=f"only these: {', '.join(get_args(DeadReason))}")
    ] = None,
    pattern: Annotated[str | None, typer.Option(metavar="PATTERN", help="only events of such types: order.>")] = None,
    limit: Annotated[int, typer.Option(metavar="N", help="redrive: the oldest so many")] = 500,
    per_second: Annotated[float, typer.Option(metavar="N", help="redrive: so many are delivered per second")] = 100.0,
    confirm: Annotated[
        str | None,
        typer.Option(metavar="TOKEN", help="redrive: what the dry run told; without it, this is the dry run"),
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="where the server is; else as squall.yaml says")
    ] = None,
    token: Annotated[
        str | None, typer.Option(metavar="SECRET", help="with --url: where its token is, env:NAME or file:PATH")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="the operator's file, instead of ./squall.yaml")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document on stdout, for programs")] = False,
) -> int:
    """Look at what a running squall serve gave up, and give it back.

    list: one line each, also of those that were given back. show: all that is known of some. redrive: what would be
    given back, and a token; with --confirm and this token just that is given back, each to the subscription that gave
    it up. Exit code 1: not all of it was.

    \b
    Example:
      squall dlq list --subscription billing
      squall dlq show 17
      squall dlq redrive --subscription billing --pattern 'order.>'
    """
    server = Server.at(url, token, "dlq: --url") if url is not None else Server.of(config)
    wanted = tuple(seqs) if seqs else None
    asked = Redrive(subscription, cast("DeadReason", reason), pattern, wanted, limit, per_second, confirm)
    try:
        if action is Action.REDRIVE:
            return _redrive(server, asked, as_json=as_json)
        return _look(server, action, asked, as_json=as_json)
    except NotThere as error:
        beside = f"beside {config or CONFIG}" if url is None else "there"
        hint = f"start `squall serve` {beside}, or say by --url where one runs"
        raise SquallError(f"dlq asks a running squall serve for what it gave up; {error} If not: {hint}") from error


def _look(server: Server, action: Action, asked: Redrive, *, as_json: bool) -> int:
    """List or show what is asked for."""
    try:
        query = DeadLetterQuery(asked.subscription, asked.reason, asked.pattern, asked.seqs)
    except SubscriptionError as error:
        raise ConfigError(f"dlq: {error}") from error
    letters = list(_letters(server, query))
    if action is Action.SHOW and not (letters and asked.seqs):
        raise ConfigError("dlq show: expected the seqs of events with dead letters: squall dlq list shows them")
    if as_json:
        _print(Page(letters))
    elif action is Action.LIST:
        _list(letters)
    else:
        _show(letters)
    return 0


def _letters(server: Server, query: DeadLetterQuery) -> Iterator[WholeLetter]:
    """All that it has, and that is asked for: event by event, where some are named, and in the order of arrival."""
    for seqs in [(seq,) for seq in dict.fromkeys(query.seqs)] if query.seqs else [None]:
        after: int | None = 0
        while after is not None:
            page = server.letters(replace(query, seqs=seqs), after)
            yield from page.dead_letters
            after = page.next


def _redrive(server: Server, asked: Redrive, *, as_json: bool) -> int:
    try:
        answer = server.redrive(asked)
    except OutdatedToken as error:
        typer.echo(_plain(str(error)), err=True)
        return NOT_DONE
    if as_json:
        _print(answer)
    elif isinstance(answer, Plan):
        _list(answer.dead_letters)
        if answer.dead_letters:
            more = ", and others wait" if answer.more else ""
            typer.echo(f"\n{_count(answer.dead_letters)} would be given back{more}. Nothing was: to do just this, add")
            typer.echo(f"  --confirm {answer.token}")
    else:
        typer.echo(f"{_count(answer.given_back)} given back")
        if answer.left:
            why = "given back by somebody else, delivered by another router, or by nobody any more"
            typer.echo(f"{_count(answer.left)} left: {why}")
            _list(answer.left)
    return NOT_DONE if isinstance(answer, Redriven) and answer.left else 0


def _count(letters: Sequence[Letter]) -> str:
    return f"{len(letters):,} dead letter{'' if len(letters) == 1 else 's'}"


def _print(document: msgspec.Struct) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


def _list(letters: Sequence[Letter]) -> None:
    if not letters:
        typer.echo("no dead letters")
        return
    for one in letters:
        error = f"{one.error_type}: {one.error}".removeprefix(": ").partition("\n")[0]
        back = "" if one.given_back is None else f", given back {_time(one.given_back)}"
        typer.echo(_plain(f"{one.seq}  {one.type}  {one.subscription}  {one.reason} {_time(one.last)}{back}"))
        typer.echo(_plain(f"    attempt {one.attempts}: {error}"))


def _show(letters: Sequence[WholeLetter]) -> None:
    for one in letters:
        try:
            payload = one.payload_base64.decode()
        except UnicodeDecodeError:
            payload = repr(one.payload_base64)
        known = {name: getattr(one, name) for name in Letter.__struct_fields__}
        metadata = msgspec.json.encode(one.metadata).decode()
        for name, value in (known | {"metadata": metadata, "payload": payload, "trace": one.trace}).items():
            text = _time(value) if isinstance(value, datetime) else "" if value is None else str(value)
            first, *others = [_plain(line) for line in text.splitlines()] or [""]
            typer.echo("\n".join([f"{name:<16} {first}", *(f"{'':<16} {line}" for line in others)]))
        typer.echo()


def _time(time: datetime | None) -> str:
    return "" if time is None else f"{time:%Y-%m-%d %H:%M:%S}"


def _plain(text: str) -> str:
    """What is no plain character, as it is written in Python: it must not move a terminal's cursor."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
