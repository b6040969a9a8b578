"""`squall plugins new`: what it writes works at once, and what it cannot write leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.chaos.cli.command import squall

from squall.chaos.scaffold import KINDS

ROOT = Path(__file__).resolve().parents[3]
FILES = {
    ".gitignore",
    "README.md",
    "pyproject.toml",
    "squall.yaml",
    "src/storm_kit/__init__.py",
    "src/storm_kit/py.typed",
    "tests/test_storm_kit.py",
    "try-it.yaml",
}

RULES = ["E", "F", "W", "I", "N", "UP", "B", "A", "C4", "SIM", "RET", "PTH", "RUF", "TID", "ASYNC", "PT", "T20", "BLE"]
every_kind = pytest.mark.parametrize("kind", KINDS)


@dataclass(frozen=True)
class Environment:
    """An environment of its own, in which what the tests' environment has can be imported, and the new package."""

    folder: Path

    def run(self, *command: str, cwd: Path) -> str:
        """What a command of it prints. Raises AssertionError where it fails."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_"))}
        done = subprocess.run(
            [str(self.folder / "bin" / "python"), "-m", *command],
            cwd=cwd,
            # The plugins of pytest that are within reach are the tests' own: nobody who installs the package has them.
            env=own | {"COLUMNS": "100", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def environment(folder: Path) -> Environment:
    """Made without a download: the packages of the tests' environment are within reach, behind its own."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (own,) = folder.glob("lib/python*/site-packages")
    (others,) = Path(sys.prefix).glob("lib/python*/site-packages")
    (own / "tests.pth").write_text(f"import site; site.addsitedir({str(others)!r})\n", encoding="utf-8")
    return Environment(folder)


@pytest.mark.slow
@every_kind
def test_it_can_be_installed_and_its_tests_pass_at_once(here: Path, kind: str) -> None:
    """As its README says, and squall finds it."""
    said = squall("plugins", "new", "storm-kit", "--kind", kind)
    assert said.code == 0, said.err
    project = here / "storm-kit"
    made = environment(here / "environment")
    made.run("pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", ".", cwd=project)
    assert " passed" in made.run("pytest", "-q", "-W", "error", cwd=project)
    shown = made.run("squall", "plugins", cwd=project)
    assert "storm_kit" in shown
    assert ("validate: storm_kit" in shown) == (kind == "middleware")


@every_kind
def test_all_is_written_that_it_says(here: Path, kind: str) -> None:
    """And each line of it is what squall's own style asks for."""
    said = squall("plugins", "new", "storm-kit", "--kind", kind)
    assert said.code == 0, said.err
    found = {path.relative_to(here / "storm-kit").as_posix() for path in here.rglob("*") if path.is_file()}
    assert found == FILES
    assert all(f"wrote    storm-kit/{name}\n" in said.out for name in FILES)
    assert "cd storm-kit\n" in said.out
    assert complaints(here / "storm-kit") == ""


@pytest.mark.parametrize(
    ("kind", "name"),
    [("fault", "reset"), ("invariant", "quick"), ("target", "bus"), ("page", "busy-keys"), ("target", "a" * 40)],
)
def test_a_name_stands_in_nobodys_way(here: Path, kind: str, name: str) -> None:
    """One that the example has too, or the longest."""
    assert squall("plugins", "new", name, "--kind", kind).code == 0
    assert complaints(here / name) == ""


def complaints(project: Path) -> str:
    """What ruff has against the package."""
    rules = ["--isolated", "--config", f"lint.select={RULES}", "--config", "line-length=120"]
    for command in (["check", *rules], ["format", "--check", "--isolated", "--config", "line-length=120"]):
        ruff = [str(Path(sys.executable).with_name("ruff")), *command]
        done = subprocess.run(ruff, cwd=project, capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stdout + done.stderr
    return ""


@pytest.mark.slow
def test_their_types_are_whole(here: Path) -> None:
    """mypy finds nothing in any of them, however strict."""
    for kind in KINDS:
        assert squall("plugins", "new", f"storm-{kind}", "--kind", kind).code == 0
    command = [sys.executable, "-m", "mypy", *sorted(map(str, here.glob("storm-*/*/**/*.py")))]
    path = os.pathsep.join(map(str, here.glob("storm-*/src")))  # with what `make lint` knows of squall already
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"MYPYPATH": path}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["Success: no issues found in 10 source files"]), (
        done
    )


def test_it_is_made_where_one_says(here: Path) -> None:
    """Folders on the way too; programs are told the files."""
    said = squall("plugins", "new", "storm-kit", "--kind", "fault", "--into", "my plugins", "--json")
    assert said.code == 0
    assert {Path(path) for path in json.loads(said.out)["written"]} == {
        Path("my plugins/storm-kit", name) for name in FILES
    }
    assert 'name: ClassVar[str] = "storm-kit"' in Path("my plugins/storm-kit/src/storm_kit/__init__.py").read_text()
    assert "cd 'my plugins/other'" in squall("plugins", "new", "other", "--into", "my plugins").out


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Storm Kit", "NAME: expected at most 40 lower-case letters"),
        ("Storm Kit", "got 'Storm Kit' (storm-kit would do)"),
        ("2fast", "(fast would do)"),
        ("storm--kit", "(storm-kit would do)"),
        ("../away", "(away would do)"),
        ("ünïcode", "got 'ünïcode'"),
        ("", "got ''"),
        ("x" * 41, "expected at most 40"),
        ("class", "'class' is a word of Python's own"),
        ("json", "'json' is a word of Python's own"),
        ("retry", "a plugin 'retry' is installed already"),
        ("redis-streams", "a plugin 'redis-streams' is installed already"),
        ("pytest", "a module 'pytest' is installed already"),
        ("squall", "a module 'squall' is installed already"),
    ],
)
def test_a_name_that_will_not_do_is_told(here: Path, name: str, told: str) -> None:
    """What is expected, what it is, and one that would do; nothing is written."""
    said = squall("plugins", "new", "--", name)
    assert (said.code, said.out) == (2, "")
    assert told in said.err
    assert said.err.count("\n") == 1
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(("kind", "told"), [("fualt", "did you mean 'fault'?"), ("x", "kinds: fault, invariant")])
def test_an_unknown_kind_is_told(here: Path, kind: str, told: str) -> None:
    """With the nearest one, or all."""
    said = squall("plugins", "new", "storm-kit", "--kind", kind)
    assert said.code == 2
    assert f"--kind: there is no kind '{kind}' ({told}" in said.err
    assert list(here.iterdir()) == []


def test_the_help_names_every_kind() -> None:
    """It must not wait for the templates to say so."""
    said = squall("plugins", "new", "--help")
    assert all(kind in said.out for kind in KINDS)
    assert "squall plugins new storm-kit" in said.out


def test_what_is_there_already_stays_as_it_is(here: Path) -> None:
    """Also a link to nowhere."""
    (here / "storm-kit").mkdir()
    (here / "other").symlink_to("nowhere")
    for name in ("storm-kit", "other"):
        said = squall("plugins", "new", name)
        assert said.code == 2
        assert f"{name}: is there already; nothing was written" in said.err
    assert list((here / "storm-kit").iterdir()) == []
    assert not (here / "nowhere").exists()


def test_where_nothing_can_be_made_is_told(here: Path) -> None:
    """A file is no folder."""
    (here / "file").touch()
    said = squall("plugins", "new", "storm-kit", "--into", "file")
    assert said.code == 2
    assert "file/storm-kit: cannot be made: Not a directory" in said.err


def test_what_could_not_be_written_whole_is_taken_back(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that is full."""
    write_text = Path.write_text

    def full(path: Path, *arguments: str, **options: str) -> int:
        if path.name == "try-it.yaml":
            raise OSError(28, "No space left on device", str(path))
        return write_text(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full)
    said = squall("plugins", "new", "storm-kit")
    assert said.code == 4
    assert "try-it.yaml: No space left on device" in said.err
    assert list(here.iterdir()) == []
