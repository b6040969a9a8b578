"""What squall's optional parts need of a machine, and what of it is there: packages, servers, programs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

Kind = Literal["package", "server", "program"]
State = Literal["found", "missing", "unusable"]

ANSWER_TIMEOUT_S = 20
EVERYTHING = "all"
SERVICES = "in a clone of squall: make services"
ENGINE = "install Docker and start it; without containers: make services"
COMPOSE = "apt-get install docker-compose, or Docker's own plugin: docker compose"


@dataclass(frozen=True)
class Program:
    """A program that a part needs.

    ask: arguments after which it prints its version and ends well. at_least: the lowest version that will do. get: how
    one gets it. instead: what does as well where it is not there.
    """

    part: str
    kind: Kind
    name: str
    ask: Sequence[str]
    get: str
    at_least: str = ""
    instead: Program | None = None


PROGRAMS: Sequence[Program] = (
    Program("redis", "server", "redis-server", ["--version"], SERVICES, at_least="7.0"),
    Program("neo4j", "server", "neo4j", ["--version"], SERVICES, at_least="5.26"),
    Program("toxiproxy", "server", "toxiproxy-server", ["-version"], SERVICES),
    Program("chromium", "program", "chromium", ["--version"], "apt-get install chromium"),
    # The client alone prints a version too: the server's is that of an engine that runs.
    Program("containers", "program", "docker", ["version", "--format", "{{.Server.Version}}"], ENGINE),
    Program(
        "containers",
        "program",
        "docker-compose",
        ["version", "--short"],
        COMPOSE,
        instead=Program("containers", "program", "docker", ["compose", "version", "--short"], COMPOSE),
    ),
)


@dataclass(frozen=True)
class Piece:
    """One thing that a part needs. where: its path. detail: why it is unusable. get: what to do unless it is found."""

    part: str
    kind: Kind
    name: str
    state: State
    version: str = ""
    where: str = ""
    detail: str = ""
    get: str = ""


def parts() -> list[str]:
    """The names of all optional parts: the extras of this installation, and what else the bench can make use of."""
    return list(dict.fromkeys([*(extra for extra, _, _ in _extras()), *(program.part for program in PROGRAMS)]))


def pieces(part: str) -> list[Piece]:
    """What the part needs, looked for now. Each program that is found is asked for its version."""
    packages = [_package(*one) for one in _extras() if one[0] == part]
    return packages + [_program(one) for one in PROGRAMS if one.part == part]


def where(name: str) -> Path | None:
    """The path of a program: from `make services` in this environment, or else from PATH."""
    found = shutil.which(name, path=str(Path(sys.prefix) / "services" / "bin")) or shutil.which(name)
    return Path(found) if found else None


def _extras() -> list[tuple[str, str, str]]:
    """Extra, package and lowest version, of each requirement that an extra of squall brings."""
    pattern = re.compile(r'([\w.-]+)(?:\[.*?\])?(?:>=([\d.]+))?.*extra == "(\S+)"')
    found = [match.groups("") for text in requires("squall") or () if (match := pattern.match(text))]
    return [(extra, package, least) for package, least, extra in found if extra != EVERYTHING]


def _package(part: str, name: str, at_least: str) -> Piece:
    get = f"pip install 'squall[{part}]'"
    try:
        found = version(name)
    except PackageNotFoundError:
        return Piece(part, "package", name, "missing", get=get)
    if _numbers(found) < _numbers(at_least):
        return Piece(part, "package", name, "unusable", found, detail=f"squall needs {at_least} or later", get=get)
    return Piece(part, "package", name, "found", found)


def _program(program: Program) -> Piece:
    path = where(program.name)
    if path is None:
        if program.instead is not None and (other := _program(program.instead)).state == "found":
            return replace(other, name=program.name)
        return Piece(program.part, program.kind, program.name, "missing", get=program.get)
    detail = ""
    try:
        asked = subprocess.run(
            [path, *program.ask],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        said, detail = "", str(error)
    else:
        said = asked.stdout.strip()
        if asked.returncode != 0:
            detail = (asked.stderr.strip() or said or f"it ended with {asked.returncode}").splitlines()[-1]
    number = re.search(r"\d+(\.\d+)+", said)
    found = number[0] if number else said
    if not detail and _numbers(found) < _numbers(program.at_least):
        detail = f"squall needs {program.at_least} or later"
    state: State = "unusable" if detail else "found"
    get = program.get if detail else ""
    return Piece(program.part, program.kind, program.name, state, found, str(path), detail, get)


def _numbers(text: str) -> tuple[int, ...]:
    """`7.0.15` as (7, 0, 15), to compare by."""
    return tuple(map(int, re.findall(r"\d+", text)))
