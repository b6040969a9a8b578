"""Dead letters of a running `squall serve`: listed, shown, and given back after a dry run."""

from __future__ import annotations

import contextlib
import enum
import http.client
import os
import re
import ssl
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar, cast, get_args
from urllib.parse import quote, urlsplit

import msgspec
import typer

from squall.core.config import Config, load_config
from squall.core.errors import ConfigError, OutdatedToken, SquallError, SubscriptionError
from squall.core.patterns import compile_pattern
from squall.core.redrive import DeadLetterQuery
from squall.core.secret import Secret
from squall.core.store import DeadReason
from squall.plugins.serve import ServePlugin
from squall.plugins.serve.letters import Letter, Page, Plan, Redrive, Redriven, WholeLetter
from squall.plugins.serve.options import ServeOptions

__all__ = ["ServePlugin", "dlq"]  # the command's entry point names the plugin here, so that the page above is its help

CONFIG = Path("squall.yaml")
PATH = "/v1/dead-letters"
PATIENCE_S = 60.0
# Who listens everywhere is reached on loopback too.
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
NOT_DONE = 1
T = TypeVar("T")


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
    server = _Server.at(url, token) if url is not None else _Server.of(config)
    wanted = tuple(seqs) if seqs else None
    if action is Action.REDRIVE:
        asked = Redrive(subscription, cast("DeadReason", reason), pattern, wanted, limit, per_second, confirm)
        return _redrive(server, asked, as_json=as_json)
    try:
        query = DeadLetterQuery(subscription, cast("DeadReason", reason), pattern, wanted)
    except SubscriptionError as error:
        raise ConfigError(f"dlq: {error}") from error
    letters = list(_letters(server, query))
    if action is Action.SHOW and not (letters and seqs):
        raise ConfigError("dlq show: expected the seqs of events with dead letters: squall dlq list shows them")
    if as_json:
        _print(Page(letters))
    elif action is Action.LIST:
        _list(letters)
    else:
        _show(letters)
    return 0


class _Server(NamedTuple):
    """Where a server is, and what it is to be told."""

    url: str
    token: str | None

    @classmethod
    def of(cls, config: Path | None) -> _Server:
        """The one that squall.yaml describes. Raises ConfigError."""
        settings = Config() if config is None and not os.path.lexists(CONFIG) else load_config(config or CONFIG)
        sections = (section for section in settings.plugins or () if section.name == "serve")
        options = next((section.options(ServeOptions) for section in sections), ServeOptions())
        host = ANYWHERE.get(options.host, options.host)
        place = f"[{host}]" if ":" in host else host
        token = None if options.token is None else options.token.read("serve: token")
        return cls(f"{'https' if options.tls else 'http'}://{place}:{options.port}", token)

    @classmethod
    def at(cls, url: str, token: str | None) -> _Server:
        """The one at this url. Raises ConfigError."""
        if token is not None and not re.fullmatch("(env|file):.+", token):
            raise ConfigError(f"dlq: --token: expected {Secret.expected}")
        return cls(url.rstrip("/"), None if token is None else Secret(token).read("dlq: --token"))

    def ask(self, path: str, kind: type[T], body: msgspec.Struct | None = None) -> T:
        """What it answers. Raises ConfigError where it does not do what it is asked, OutdatedToken, and SquallError
        where it does not answer, or cannot just now."""
        parts, headers = urlsplit(self.url), {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"dlq: --url: expected http:// or https:// and a host, got {self.url!r:.80}")
        connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        try:
            with contextlib.closing(connect(parts.hostname, parts.port, timeout=PATIENCE_S)) as connection:
                data = None if body is None else msgspec.json.encode(body)
                connection.request("GET" if body is None else "POST", parts.path.rstrip("/") + path, data, headers)
                answer = connection.getresponse()
                said = answer.read()
        except ssl.SSLCertVerificationError as error:
            hint = "give --url with the name in its certificate; SSL_CERT_FILE names a file of others to trust"
            raise SquallError(f"squall serve at {self.url}: {error.verify_message}: {hint}") from error
        except (OSError, http.client.HTTPException) as error:
            why = str(error) or type(error).__name__
            raise SquallError(f"squall serve at {self.url} does not answer ({why}): is it running there?") from error
        try:
            if answer.status == http.HTTPStatus.OK:
                return msgspec.json.decode(said, type=kind)
            problem = msgspec.json.decode(said, type=_Problem)
        except msgspec.MsgspecError as error:
            raise ConfigError(f"dlq: {self.url} answers {answer.status}, and not as a squall serve does") from error
        if problem.title == OutdatedToken.__name__:
            raise OutdatedToken(problem.detail)
        text = f"squall serve at {self.url}: {problem.detail}"
        if answer.status in (http.HTTPStatus.CONFLICT, http.HTTPStatus.SERVICE_UNAVAILABLE):
            raise SquallError(text)
        raise ConfigError(text)


class _Problem(msgspec.Struct):
    title: str
    detail: str


def _letters(server: _Server, query: DeadLetterQuery) -> Iterator[WholeLetter]:
    """All that it has, and that is asked for, in the order of their arrival."""
    matches = None if query.pattern is None else compile_pattern(query.pattern)
    of = "" if query.subscription is None else f"&subscription={quote(query.subscription, safe='')}"
    after = 0
    while page := server.ask(f"{PATH}?after={after}{of}", Page).dead_letters:
        after += len(page)
        for one in page:
            if (
                query.reason in (None, one.reason)
                and (query.seqs is None or one.seq in query.seqs)
                and (matches is None or matches(one.type))
            ):
                yield one


def _redrive(server: _Server, asked: Redrive, *, as_json: bool) -> int:
    try:
        kind: type[Plan | Redriven] = Plan if asked.token is None else Redriven
        answer = server.ask(f"{PATH}/redrive", kind, asked)
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
