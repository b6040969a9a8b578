"""Secrets, kept out of what is stored of errors: values that are known to be secret, and passwords in URLs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from pydantic import BaseModel, SecretStr

from squall.core.errors import ConfigError
from squall.core.secret import HIDDEN, PASSWORD_IN_URL, Secret, without_passwords

SECRET_WORDS = frozenset({
    "APIKEY", "CREDENTIAL", "CREDENTIALS", "KEY", "PASSPHRASE", "PASSWD", "PASSWORD", "SECRET", "SECRETS", "TOKEN",
})  # fmt: skip
MIN_SECRET_CHARACTERS = 6


def known_secrets(environ: Mapping[str, str], options: Iterable[BaseModel]) -> Iterator[str]:
    """Values of environment variables one of whose words is of SECRET_WORDS, passwords in the URLs of all others, and
    options of type Secret and SecretStr: of what is a URL its password."""
    for name, value in environ.items():
        if not SECRET_WORDS.isdisjoint(name.upper().split("_")):
            yield value
        yield from _passwords(value)
    for model in options:
        for _, value in model:
            if isinstance(value, SecretStr):
                yield value.get_secret_value()
            elif isinstance(value, Secret):
                with contextlib.suppress(ConfigError):  # told when it is needed
                    found = value.read("")
                    yield from _passwords(found) if "://" in found else (found,)


def _passwords(text: str) -> Iterator[str]:
    return (match[2] for match in PASSWORD_IN_URL.finditer(text))


def scrubber(secrets: Iterable[str]) -> Callable[[str], str]:
    """A function that hides these secrets in a text, and every password in a URL. Shorter ones than
    MIN_SECRET_CHARACTERS stay: they would be found in words that are none."""
    known = sorted({one for one in secrets if len(one) >= MIN_SECRET_CHARACTERS}, key=len, reverse=True)
    any_known = re.compile("|".join(map(re.escape, known)) or "(?!)")
    return lambda text: without_passwords(any_known.sub(HIDDEN, text))
