"""Runs a documentation page: every fenced block is run, written or validated, or else says why not.

    ```console, ```bash     each line `$ command` is run by bash in the page's folder; a bash block without `$` is one
                            script. Other lines are samples of output.
    ```python               is run as a program
    ```yaml                 needs one of the two comments below
    ```toml                 needs a file note
    ```text                 is a sample, and not run (with a file note it is written)

Comments directly before a block say more, one note each or several: `<!-- exit: 1; file: shop.yaml -->`. The notes:

    setup                   sets the project up (clone, install, test it): not run
    exit: 1                 the expected exit code of the block's last command, instead of 0
    says: none lost         what the block's last command prints, among other things; blanks and breaks count alike
    file: shop.yaml         the block is written to this file; a scenario is then validated, a program compiled
    part of: shop.yaml      the block's sections, put in place of that file's own, make a valid scenario
    signature: Event        the block is what the code declares of it: compared with that, not run

A page has one folder, so that a later block sees the files of an earlier one. The folder looks like a clone that is set
up to the commands of a reader: a copy of the tree, `squall` on the path, and a .venv which `make` finds complete. What
`pip install` of a folder puts in, this page's commands alone see; nothing is downloaded.
"""

import os
import posixpath
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from markdown_it import MarkdownIt
from tests.docs.api_reference import signature

from squall.core.yaml_source import load_document, parse_document

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "first-plugin.md"
COMMAND_TIMEOUT_S = 180
NOT_CLONED = (".git", ".venv", "build", "dist", "runs", "data")
MADE = ("__pycache__", "*.egg-info", ".*_cache", ".hypothesis")
STAMP = ".installed"
KINDS = ("console", "bash", "python", "yaml", "toml", "text")
NOTES = ("setup", "exit", "says", "file", "part of", "signature")


class BrokenPage(AssertionError):
    """A block that cannot be run, or that did not do what its page says."""


@dataclass(frozen=True)
class Block:
    """A fenced block, where it is, and what the comment before it says."""

    place: str
    line: int
    kind: str
    text: str
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        return int(self.notes.get("exit", "0"))


def parse(page: Path) -> list[Block]:
    """The fenced blocks of a page in order. Raises BrokenPage for a kind or a note that is not known."""
    blocks = []
    comments: list[str] = []
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        line = token.map[0] + 1 if token.map else 0
        place = f"{page.name}:{line}"
        comment = re.fullmatch(r"<!--(.*)-->\s*", token.content, re.DOTALL) if token.type == "html_block" else None
        if comment is not None:
            comments.append(comment[1])
            continue
        if token.type == "code_block":
            raise BrokenPage(f"{place}: an indented block has no kind; expected a fence with one of {', '.join(KINDS)}")
        if token.type == "fence":
            if token.info not in KINDS:
                raise BrokenPage(f"{place}: unknown kind of block {token.info!r}; expected one of {', '.join(KINDS)}")
            blocks.append(Block(place, line, token.info, token.content, _notes(place, comments)))
        comments = []
    return blocks


def _notes(place: str, comments: list[str]) -> dict[str, str]:
    notes = {}
    for note in ";".join(comments).split(";") if comments else ():
        name, _, value = (part.strip() for part in note.partition(":"))
        if name not in NOTES:
            raise BrokenPage(f"{place}: unknown note {name!r} for the runner; known: {', '.join(NOTES)}")
        notes[name] = value
    return notes


def commands(block: Block) -> list[str]:
    """The commands of a console or bash block, a line that ends in a backslash joined with the next."""
    joined = block.text.replace("\\\n", " ")
    found = [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]
    if not found and block.kind == "bash":
        found = [f"set -euo pipefail\n{block.text}"]
    if not found:
        raise BrokenPage(f"{block.place}: no line begins with '$ ', so nothing would be run; is it a text block?")
    return found


def run_page(page: Path, folder: Path) -> int:
    """Run all blocks of a page in the folder; returns how many were run, written or validated."""
    furnish(folder)
    runners = {"console": _run_commands, "bash": _run_commands, "python": _run_python, "toml": _refuse_toml}
    count, waiting = 0, dict[str, Block]()
    for block in parse(page):
        if "setup" in block.notes:
            continue
        name = _scenario_of(block)
        if name is None or name in waiting or block.notes.get("part of") in waiting:
            _validate(waiting, folder)
        if "signature" in block.notes:
            _compare(block)
        elif "file" in block.notes:
            _write(block, folder)
        elif block.kind == "yaml":
            _write_merged(block, folder)
        elif block.kind == "text":
            continue
        else:
            runners[block.kind](block, folder)
        if name is not None:
            waiting[name] = block
        count += 1
    _validate(waiting, folder)
    return count


def furnish(folder: Path) -> None:
    """Make an empty folder look like a clone that is set up. All is copied: a page may change it."""

    def unwanted(place: str, names: list[str]) -> set[str]:
        made = shutil.ignore_patterns(*MADE)(place, names)
        return made | ({*names} & {*NOT_CLONED} if Path(place) == ROOT else set())

    shutil.copytree(ROOT, folder, symlinks=True, ignore=unwanted, dirs_exist_ok=True)
    environment = folder / ".venv"
    environment.mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.name != STAMP:
            (environment / entry.name).symlink_to(entry)
    (environment / STAMP).touch()  # newer than the lock: make never installs the copy over the tree under test


def _run_commands(block: Block, folder: Path) -> None:
    *first, last = commands(block)
    for command in first:
        _expect(block, ["bash", "-c", command], folder, 0)
    _says(block, _expect(block, ["bash", "-c", last], folder, block.exit_code))


def _run_python(block: Block, folder: Path) -> None:
    program = folder / f"line_{block.line}.py"
    program.write_text(block.text, encoding="utf-8")
    _says(block, _expect(block, [sys.executable, program.name], folder, block.exit_code))


def _says(block: Block, output: str) -> None:
    wanted = block.notes.get("says", "")
    if " ".join(wanted.split()) not in " ".join(output.split()):
        raise BrokenPage(f"{block.place}: expected it to print {wanted!r}, it printed\n{output}")


def _compare(block: Block) -> None:
    if block.text != signature(block.notes["signature"]):
        raise BrokenPage(f"{block.place}: out of date: run `make docs`")


def _refuse_toml(block: Block, folder: Path) -> None:
    raise BrokenPage(f"{block.place}: a toml block needs <!-- file: … --> before it")


def _scenario_of(block: Block) -> str | None:
    """The file of a yaml block that is a scenario, or a part of one."""
    if block.kind != "yaml" or _is_config(block):
        return None
    return posixpath.normpath(block.notes["file"]) if "file" in block.notes else _merged(block)


def _merged(block: Block) -> str:
    """The file of a part in its whole."""
    return f"line_{block.line}.yaml"


def _is_config(block: Block) -> bool:
    return Path(block.notes.get("file", "")).name == "squall.yaml"


def _write_merged(block: Block, folder: Path) -> None:
    if "part of" not in block.notes:
        raise BrokenPage(f"{block.place}: a yaml block needs <!-- file: … --> or <!-- part of: … --> before it")
    whole = load_document(folder / block.notes["part of"]).data
    part = parse_document(block.text, block.place).data
    if not (isinstance(whole, dict) and isinstance(part, dict)):
        raise BrokenPage(f"{block.place}: expected sections of a file, `name: …`")
    (folder / _merged(block)).write_text(yaml.safe_dump(whole | part, sort_keys=False), encoding="utf-8")


def _write(block: Block, folder: Path) -> None:
    path = (folder / block.notes["file"]).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise BrokenPage(f"{block.place}: {block.notes['file']} is outside the page's folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")
    if block.kind == "python":
        compile(block.text, block.place, "exec")
    elif block.kind == "toml":
        tomllib.loads(block.text)
    elif _is_config(block):  # the operator's: read by every command, shown by this one
        _expect(block, ["squall", "plugins"], folder, block.exit_code)


def _validate(waiting: dict[str, Block], folder: Path) -> None:
    """Validate the scenarios written so far; those that should be right all at once, which takes half a second."""
    right = {name: block for name, block in waiting.items() if not block.exit_code}
    try:
        if right:
            _expect(next(iter(right.values())), ["squall", "validate", *right], folder, 0)
    except BrokenPage:
        for name, block in right.items():  # which of them
            _expect(block, ["squall", "validate", name], folder, 0)
        raise
    for name, block in waiting.items():
        if block.exit_code:
            _expect(block, ["squall", "validate", name], folder, block.exit_code)
    waiting.clear()


def environment(folder: Path) -> dict[str, str]:
    """The commands of this environment first; what pip installs goes into the page's folder, from what is there."""
    installed = str(folder / ".site")
    pip = {"TARGET": installed, "UPGRADE": "1", "NO_INDEX": "1", "NO_DEPS": "1", "NO_BUILD_ISOLATION": "0"}
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, (installed, os.environ.get("PYTHONPATH")))),
        "COLUMNS": "100",
        **{f"PIP_{name}": value for name, value in pip.items()},
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }


def _expect(block: Block, command: list[str], folder: Path, exit_code: int) -> str:
    """What a command prints. Raises BrokenPage when it does not end in time, or with another exit code."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=COMMAND_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise BrokenPage(f"{block.place}: {command[-1]}: still running after {COMMAND_TIMEOUT_S} s") from None
    if process.returncode != exit_code:
        raise BrokenPage(
            f"{block.place}: {command[-1]}: expected exit code {exit_code}, got {process.returncode}\n{output}"
        )
    return output
