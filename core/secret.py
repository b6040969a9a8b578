"""Secrets by where they are written: `env:NAME` or `file:PATH` in options, read when what needs them starts."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from pydantic import GetCoreSchemaHandler, SerializationInfo, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from squall.core.errors import ConfigError

HIDDEN = "***"
TOLD_BY = "SQUALL_SECRET_"
PASSWORD_IN_URL = re.compile(r"(?<=://)([^\s/:@]*):([^\s/@]+)@")


def without_passwords(text: str) -> str:
    """The text, with passwords in URLs hidden."""
    return PASSWORD_IN_URL.sub(rf"\1:{HIDDEN}@", text)


@dataclass(frozen=True, repr=False)
class Secret:
    """A type of option: where a secret is written, `env:NAME` or `file:PATH`; a relative file counts from `folder`, the
    one of squall.yaml, or from the working directory where options are given in Python.

    It is read whenever what needs it starts, and not before: so a configuration can be checked where its secrets are
    not, and shows where they are, not what. A subclass may allow `directly` (a pattern) what need not be secret, such
    as a URL.
    """

    where: str
    folder: str = ""

    directly: ClassVar[str] = r"(?!)"
    expected: ClassVar[str] = "env:NAME or file:PATH, never the secret itself"

    def read(self, what: str) -> str:
        """The secret. Raises ConfigError, in which it is called `what`, where it cannot be read or is empty."""
        kind, _, name = self.where.partition(":")
        if kind == "env":
            found = os.environ.get(name, "").strip()
            if not found:
                raise ConfigError(f"{what}: the environment variable {name} is not set; it is to hold the secret")
            return found
        if kind == "file":
            try:
                found = Path(self.folder, name).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is no text"
                raise ConfigError(
                    f"{what}: the file that is to hold it cannot be read: {Path(self.folder, name)}: {reason}"
                ) from None
            if not found:
                raise ConfigError(f"{what}: the file that is to hold it is empty: {Path(self.folder, name)}")
            return found
        return self.where

    def told(self, environment: dict[str, str]) -> str:
        """Where it is written, for a process that begins in another folder with this environment as well. What must not
        be written down is put into there, and found by its name."""
        kind, _, name = self.where.partition(":")
        if kind == "file":
            return f"file:{Path(self.folder, name).absolute()}"
        if kind == "env" or str(self) == self.where:
            return self.where
        variable = f"{TOLD_BY}{len(environment)}"
        environment[variable] = self.where
        return f"env:{variable}"

    def __str__(self) -> str:
        return without_passwords(self.where)

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self}')"

    @classmethod
    def _of(cls, value: object, info: ValidationInfo) -> Self:
        if isinstance(value, cls):
            return value
        if isinstance(value, str) and re.fullmatch(rf"(env|file):.+|{cls.directly}", value):
            return cls(value, str(info.context or ""))
        raise PydanticCustomError("secret", "expected {what}", {"what": cls.expected})

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            cls._of,
            serialization=core_schema.plain_serializer_function_ser_schema(
                _dumped, info_arg=True, return_schema=core_schema.str_schema(), when_used="json-unless-none"
            ),
            json_schema_input_schema=core_schema.str_schema(pattern=rf"^((env|file):.+|{cls.directly})$"),
        )


def _dumped(secret: Secret, info: SerializationInfo) -> str:
    """As people are shown it; as it is told to another process where the context is that one's environment."""
    return str(secret) if info.context is None else secret.told(info.context)
