"""Writes a plugin package from the templates in this folder: all of it, or nothing."""

from __future__ import annotations

import importlib.util
import keyword
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from squall.core.errors import ConfigError, Problem
from squall.core.options import did_you_mean, show
from squall.core.wiring import installed

MAX_NAME = 40
NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
TAKEN = ("squall", "tests")


@dataclass(frozen=True)
class Kind:
    """What a package of this kind brings. about: what its example does, in one sentence. trying: what the scenario
    that comes with it shows. needs: the extra of squall without which it does nothing."""

    about: str
    trying: str
    needs: str = ""


KINDS: Mapping[str, Kind] = {
    "middleware": Kind(
        "Refuses events whose payload is larger than a limit.",
        "one event in five is too large, and nothing that was refused is delivered",
    ),
    "fault": Kind(
        "Lets every so many-th call of a handler end in a ConnectionResetError.",
        "every seventh call is reset for a second, and no event is lost",
    ),
    "invariant": Kind(
        "No call of a handler takes longer than a limit.",
        "handlers of 2 ms under load; with `--set limit=1ms` it is found to be broken",
    ),
    "target": Kind(
        "A bus of a queue for each subscriber, for the bench to judge.",
        "one call in ten fails, and the bus keeps its word",
    ),
    "page": Kind(
        "A page of the dashboard that shows the keys with the most events.",
        "a run with twenty keys, to look at",
        needs="dashboard",
    ),
}


def scaffold(name: str, kind: str, folder: Path) -> list[Path]:
    """Write the package `name` into folder/name, and return its files.

    Raises ConfigError for a name or a kind that will not do, for a folder that is there already, and where it cannot
    be written; of a package that could not be written whole nothing is left.
    """
    root = folder / name
    problems = [*_kind_problems(kind), *_name_problems(name)]
    if not problems and (root.exists() or root.is_symlink()):
        problems.append(Problem(str(root), "is there already; nothing was written"))
    if problems:
        raise ConfigError(problems)
    files = _rendered(name, kind)
    try:
        root.mkdir(parents=True)
    except OSError as error:
        raise ConfigError([Problem(str(root), f"cannot be made: {error.strerror or error}")]) from error
    try:
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
    except BaseException:
        shutil.rmtree(root)
        raise
    return [root / path for path in files]


def _kind_problems(kind: str) -> list[Problem]:
    if kind in KINDS:
        return []
    return [Problem("--kind", f"there is no kind {show(kind)}", hint=did_you_mean(kind, KINDS, "kinds"))]


def _name_problems(name: str) -> list[Problem]:
    """Whether the name does: as a package, as a module, and beside what is installed."""
    module = _module(name)
    hint = ""
    if not NAME.fullmatch(name) or len(name) > MAX_NAME:
        near = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789")[:MAX_NAME].rstrip("-")
        message = (
            f"expected at most {MAX_NAME} lower-case letters, digits, and single - or _ between them, "
            f"a letter first, got {show(name)}"
        )
        hint = f"{near} would do" if near and not _name_problems(near) else ""
    elif keyword.iskeyword(module) or module in sys.stdlib_module_names:
        message = f"{show(name)} is a word of Python's own: the package could not be imported"
    elif module in installed() or name in installed():
        message = f"a plugin {show(name)} is installed already"
    elif module in TAKEN or ((spec := importlib.util.find_spec(module)) is not None and spec.has_location):
        message = f"a module {show(module)} is installed already: the package would hide it, or be hidden"
    else:
        return []
    return [Problem("NAME", message, hint=hint)]


def _module(name: str) -> str:
    return name.replace("-", "_")


def _rendered(name: str, kind: str) -> dict[str, str]:
    """The text of each file, by its path within the package."""
    module = _module(name)
    words = module.split("_")
    templates = Environment(
        loader=PackageLoader("squall.chaos.scaffold", ""),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        autoescape=False,  # what is written are programs, not pages
    )
    values = {
        "name": name,
        "module": module,
        "words": " ".join(words),
        "class_name": "".join(word.capitalize() for word in words) + "Plugin",
        "kind": kind,
        "about": KINDS[kind].about,
        "trying": KINDS[kind].trying,
        "extra": f"[{KINDS[kind].needs}]" if KINDS[kind].needs else "",
    }
    files = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        ".gitignore": "gitignore",
        "squall.yaml": "squall.yaml",
        "try-it.yaml": f"{kind}.yaml",
        f"src/{module}/__init__.py": f"{kind}.py",
        f"src/{module}/py.typed": "py.typed",
        f"tests/test_{module}.py": f"{kind}_test.py",
    }
    return {path: templates.get_template(f"{template}.j2").render(values) for path, template in files.items()}
