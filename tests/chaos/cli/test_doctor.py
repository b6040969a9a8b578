"""`squall doctor`: what is found, what is missing, and how to get it."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from tests.chaos.cli.command import Said, squall

from squall.chaos import installed


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, of a machine on which nothing was installed."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(path: Path, text: str) -> None:
    """A program that does what the text says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def pieces(said: Said) -> Sequence[Mapping[str, str]]:
    """What the command printed for programs."""
    found: Sequence[Mapping[str, str]] = json.loads(said.out)["pieces"]
    return found


def test_what_is_there_is_found(machine: Path) -> None:
    """Its version and where it is; then exit code 0."""
    program(machine / "redis-server", "echo Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64")
    said = squall("doctor", "redis", "--json")
    assert said.code == 0, said.out
    assert [piece["name"] for piece in pieces(said)] == ["redis", "hiredis", "redis-server"]
    server = pieces(said)[-1]
    assert (server["state"], server["version"]) == ("found", "7.0.15")
    assert server["where"] == str(machine / "redis-server")


def test_what_is_missing_is_told_with_the_way_to_get_it(machine: Path) -> None:
    """Exit code 4: what was asked for is not there."""
    said = squall("doctor", "redis")
    assert said.code == 4
    assert "✗ server   redis-server is missing · in a clone of squall: make services" in said.out
    assert "neo4j" not in said.out


def test_without_names_everything_is_shown_and_nothing_is_asked_for(machine: Path) -> None:
    """Optional parts may be missing."""
    said = squall("doctor", "--json")
    assert said.code == 0
    assert {piece["part"] for piece in pieces(said)} >= {"redis", "neo4j", "toxiproxy", "chromium", "containers"}


def test_what_make_services_installed_goes_before_path(machine: Path) -> None:
    """It has the version that squall is tested with."""
    program(machine / "toxiproxy-server", "echo toxiproxy-server version 2.1.4")
    program(machine / "environment/services/bin/toxiproxy-server", "echo toxiproxy-server version 2.12.0")
    assert pieces(squall("doctor", "toxiproxy", "--json"))[-1]["version"] == "2.12.0"


@pytest.mark.parametrize(
    ("does", "detail"),
    [
        ("echo Redis server v=6.0.16", "squall needs 7.0 or later"),
        ("echo libssl is not there >&2; exit 127", "libssl is not there"),
        ("exit 3", "it ended with 3"),
    ],
)
def test_server_that_will_not_do_is_told(machine: Path, does: str, detail: str) -> None:
    """Too old, or broken: it is no use that it is there."""
    program(machine / "redis-server", does)
    said = squall("doctor", "redis", "--json")
    assert said.code == 4
    server = pieces(said)[-1]
    assert (server["state"], server["detail"]) == ("unusable", detail)
    assert "make services" in server["get"]
    assert detail in " ".join(squall("doctor", "redis").out.split())


@pytest.mark.parametrize(
    ("requirement", "state"),
    [
        ("no-such-package>=1.0", "missing"),
        ("pytest>=999", "unusable"),
        ("pytest[dev]>=9; python_version > '3'", "found"),
    ],
)
def test_packages_are_those_of_the_extra(
    machine: Path, monkeypatch: pytest.MonkeyPatch, requirement: str, state: str
) -> None:
    """As this installation's metadata has them, with their lowest versions."""
    joint = " and" if ";" in requirement else ";"
    monkeypatch.setattr(installed, "requires", lambda _: ["typer>=0.29", f'{requirement}{joint} extra == "dashboard"'])
    said = squall("doctor", "dashboard", "--json")
    assert [(piece["kind"], piece["state"]) for piece in pieces(said)] == [("package", state)]
    assert said.code == (0 if state == "found" else 4)
    assert ("pip install 'squall[dashboard]'" in said.out) == (state != "found")


def test_compose_is_looked_for_beside_the_engine(machine: Path) -> None:
    """Its file is checked without an engine, and so each is told by itself."""
    assert "docker-compose is missing · apt-get install docker-compose" in " ".join(
        squall("doctor", "containers").out.split()
    )
    program(machine / "docker-compose", "echo 1.29.2")
    engine, compose = pieces(squall("doctor", "containers", "--json"))
    assert (engine["name"], engine["state"]) == ("docker", "missing")
    assert (compose["name"], compose["state"], compose["version"]) == ("docker-compose", "found", "1.29.2")


def test_docker_s_own_compose_does_as_well(machine: Path) -> None:
    """Where it is installed; an engine without it is not enough."""
    program(machine / "docker", '[ "$1" = version ] && echo 28.5.1 || exit 1')
    said = squall("doctor", "containers", "--json")
    assert [(piece["name"], piece["state"]) for piece in pieces(said)] == [
        ("docker", "found"),
        ("docker-compose", "missing"),
    ]
    assert said.code == 4
    program(machine / "docker", '[ "$1" = version ] && echo 28.5.1 || echo 2.40.3')
    said = squall("doctor", "containers", "--json")
    assert [piece["version"] for piece in pieces(said)] == ["28.5.1", "2.40.3"]
    assert said.code == 0


def test_unknown_part_is_refused() -> None:
    """With those that there are."""
    said = squall("doctor", "redis", "kafka")
    assert said.code == 2
    known = "redis, neo4j, toxiproxy, serve, remote, dashboard, tracing, profile, locust, chromium, containers"
    assert f"PART: there is no 'kafka'; expected {known}" in said.err
