"""`services/install`: what is missing is told once and plainly, what is there is left alone."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.needed import needed
from tests.servers import GET

pytestmark = pytest.mark.slow  # what installs is run

ROOT = Path(__file__).resolve().parents[2]
INSTALL = ROOT / "services" / "install"
PLAIN = ("bash", "cmp", "dirname", "id", "install", "mkdir", "mv", "rm", "rmdir", "sed")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder that is all of PATH: no package client in it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in PLAIN:
        (folder / name).symlink_to(needed(name, "it is part of every system"))
    return folder


def program(folder: Path, name: str, text: str) -> None:
    """A program in the folder that does what the text says."""
    (folder / name).write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


def install(bare: Path) -> tuple[int, list[str]]:
    """Exit code, and the lines that it has said itself, sorted: the three servers are installed side by side."""
    said = subprocess.run(
        [INSTALL, bare.parent / "services"], env={"PATH": str(bare)}, capture_output=True, text=True, check=False
    )
    return said.returncode, sorted(line for line in said.stderr.splitlines() if line.startswith("services: "))


def test_each_missing_client_is_told_once(bare: Path) -> None:
    """And what to install."""
    code, lines = install(bare)
    assert code == 1
    neo4j, redis, toxiproxy = lines
    assert "mvn is not here: apt-get install maven" in neo4j
    assert "Install redis-server 7.0 or later with your system's own" in redis
    assert "go is not here. Install Go 1.23 or later" in toxiproxy


def test_clients_that_fail_are_told(bare: Path) -> None:
    """After what they said themselves; what is only half there is not taken for whole."""
    program(bare, "apt-get", "exit 100")
    program(bare, "sudo", '"$@"')
    program(bare, "go", '[ "$1" = version ] && echo go version go1.19 || exit 1')
    program(bare, "mvn", 'for one in "$@"; do case $one in -DoutputDirectory=*) mkdir "${one#*=}"; esac; done; exit 1')
    for _ in range(2):
        code, lines = install(bare)
        assert code == 1
        told = [line for line in lines if "what it said is above" in line]
        assert ["mvn" in line for line in told] == [False, False, True]
        assert "go version go1.19 could not build toxiproxy" in "\n".join(told)
        assert not (bare.parent / "services" / "neo4j").exists()


def test_what_is_there_is_left_alone() -> None:
    """No package client is asked again: it is quick, and works without a network."""
    needed("neo4j", GET)
    needed("toxiproxy-server", GET)
    made = Path(sys.prefix) / "services"
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    said = subprocess.run([INSTALL, made], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_scripts_are_what_a_shell_can_read() -> None:
    """The launcher by the plainest shell that is about."""
    for shell, script in (("bash", INSTALL), (shutil.which("dash") or "sh", ROOT / "services" / "neo4j")):
        subprocess.run([shell, "-n", script], check=True)
