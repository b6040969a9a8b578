"""Secrets, kept out of what is stored of errors: values that are known to be secret, and passwords in URLs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from pydantic import BaseModel, SecretStr

SECRET_WORDS = frozenset({
    "APIKEY", "CREDENTIAL", "CREDENTIALS", "KEY", "PASSPHRASE", "PASSWD", "PASSWORD", "SECRET", "SECRETS", "TOKEN",
})  # fmt: skip
MIN_SECRET_CHARACTERS = 6
HIDDEN = "***"
_IN_URL = re.compile(r"(?<=://)([^\s/:@]*):([^\s/@]+)@")


def known_secrets(environ: Mapping[str, str], options: Iterable[BaseModel]) -> Iterator[str]:
    """Values of environment variables one of whose words is of SECRET_WORDS, passwords in the URLs of all others, and
    options of type SecretStr."""
    for name, value in environ.items():
        if not SECRET_WORDS.isdisjoint(name.upper().split("_")):
            yield value
        yield from (match[2] for match in _IN_URL.finditer(value))
    for model in options:
        yield from (value.get_secret_value() for _, value in model if isinstance(value, SecretStr))


def scrubber(secrets: Iterable[str]) -> Callable[[str], str]:
    """A function that hides these secrets in a text, and every password in a URL. Shorter ones than
    MIN_SECRET_CHARACTERS stay: they would be found in words that are none."""
    known = sorted({one for one in secrets if len(one) >= MIN_SECRET_CHARACTERS}, key=len, reverse=True)
    any_known = re.compile("|".join(map(re.escape, known)) or "(?!)")
    return lambda text: _IN_URL.sub(rf"\1:{HIDDEN}@", any_known.sub(HIDDEN, text))
