"""A running `squall serve`, as operators' programs ask it: where it is, what it answers, and what that means."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import ssl
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from squall.core.config import Config, load_config
from squall.core.errors import ConfigError, Outcome, OutdatedToken, SquallError
from squall.core.reaching import unreachable
from squall.core.redrive import DeadLetterQuery
from squall.core.secret import Secret
from squall.plugins.serve.letters import Page, Plan, Redrive, Redriven
from squall.plugins.serve.options import ServeOptions

CONFIG = Path("squall.yaml")
PATH = "/v1/dead-letters"
PATIENCE_S = 60.0
# Who listens everywhere is reached on loopback too.
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
T = TypeVar("T")


class NotThere(SquallError):
    """Nobody was asked: the server cannot be reached."""


class Unanswered(SquallError):
    """What was asked may have been done: it was sent, and no answer says what became of it."""


class Server(NamedTuple):
    """Where a server is, what it is to be told, and for how long its next word is waited for."""

    url: str
    token: str | None
    patience_s: float = PATIENCE_S

    @classmethod
    def of(cls, config: Path | None) -> Server:
        """The one that squall.yaml describes. Raises ConfigError."""
        settings = Config() if config is None and not os.path.lexists(CONFIG) else load_config(config or CONFIG)
        sections = (section for section in settings.plugins or () if section.name == "serve")
        options = next((section.options(ServeOptions) for section in sections), ServeOptions())
        host = ANYWHERE.get(options.host, options.host)
        place = f"[{host}]" if ":" in host else host
        token = None if options.token is None else options.token.read("serve: token")
        return cls(f"{'https' if options.tls else 'http'}://{place}:{options.port}", token)

    @classmethod
    def at(cls, url: str, token: str | None, option: str, patience_s: float = PATIENCE_S) -> Server:
        """The one at this url, which such an option names. Raises ConfigError."""
        command = option.partition(":")[0]
        if token is not None and not re.fullmatch("(env|file):.+", token):
            raise ConfigError(f"{command}: --token: expected {Secret.expected}")
        try:
            parts = urlsplit(url)
            right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # no port, or half an IPv6 address
            right = False
        if not right:
            raise ConfigError(f"{option}: expected http:// or https:// and a host, got {url!r:.80}")
        if parts.username is not None or parts.query or parts.fragment:
            raise ConfigError(f"{option}: expected an address alone; --token env:NAME says where its token is")
        found = None if token is None else Secret(token).read(f"{command}: --token")
        if found is not None and not re.fullmatch("[!-~]+", found):
            raise ConfigError(f"{command}: --token: {token}: expected a token of plain characters, without blanks")
        return cls(url.rstrip("/"), found, patience_s)

    def letters(self, query: DeadLetterQuery, after: int = 0) -> Page:
        """A page of the dead letters that the query wants, from the after-th on, also of those that were given back; of
        one seq at most. Raises as ask does."""
        asked = {
            "after": after,
            "limit": query.limit,
            "subscription": query.subscription,
            "reason": query.reason,
            "pattern": query.pattern,
            "seq": query.seqs[0] if query.seqs else None,
        }
        return self.ask(f"{PATH}?{urlencode({key: one for key, one in asked.items() if one is not None})}", Page)

    def redrive(self, asked: Redrive) -> Plan | Redriven:
        """Without a token the dry run; with it, what was given back. Raises as ask does."""
        kind: type[Plan | Redriven] = Plan if asked.token is None else Redriven
        return self.ask(f"{PATH}/redrive", kind, asked)

    def ask(self, path: str, kind: type[T], body: msgspec.Struct | None = None) -> T:
        """What it answers. Raises ConfigError where it does not do what it is asked, OutdatedToken, Unanswered,
        NotThere, and SquallError where it cannot just now."""
        parts, headers = urlsplit(self.url), {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        kind_of_silence: type[SquallError] = NotThere
        try:
            with contextlib.closing(connect(parts.hostname or "", parts.port, timeout=self.patience_s)) as connection:
                connection.connect()
                kind_of_silence = Unanswered
                data = None if body is None else msgspec.json.encode(body)
                connection.request("GET" if body is None else "POST", parts.path.rstrip("/") + path, data, headers)
                answer = connection.getresponse()
                said = answer.read()
        except ssl.SSLCertVerificationError as error:
            hint = "give the name in its certificate; SSL_CERT_FILE names a file of others to trust"
            raise SquallError(f"squall serve at {self.url}: {error.verify_message}: {hint}") from error
        except (OSError, http.client.HTTPException) as error:
            text = f"squall serve at {self.url} does not answer ({unreachable(error)}): is it running there?"
            raise kind_of_silence(text) from error
        try:
            if answer.status == http.HTTPStatus.OK:
                return msgspec.json.decode(said, type=kind)
            problem = msgspec.json.decode(said, type=_Problem)
        except msgspec.MsgspecError as error:
            text = f"{self.url} answers {answer.status}, and not as a squall serve does"
            if answer.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:  # whoever stands between, or a server that broke
                raise Unanswered(text) from error
            raise ConfigError(text) from error
        raise self._refusal(answer.status, problem)

    def _refusal(self, status: int, problem: _Problem) -> SquallError:
        text = f"squall serve at {self.url}: {problem.detail}"
        if problem.title == OutdatedToken.__name__:
            return OutdatedToken(problem.detail)
        if status not in (http.HTTPStatus.CONFLICT, http.HTTPStatus.SERVICE_UNAVAILABLE):
            return ConfigError(text)
        return Unanswered(text) if problem.outcome == "info" else SquallError(text)


class _Problem(msgspec.Struct):
    title: str
    detail: str
    outcome: Outcome = "fail"
