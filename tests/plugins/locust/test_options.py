"""What a scenario may say of Locust, and what it is told where that is wrong, or Locust is not there."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from squall import ConfigError
from squall.chaos.catalogue import load_catalogue
from squall.chaos.driven import make_driver
from squall.chaos.installed import pieces
from squall.chaos.named_target import make_target
from squall.chaos.scenario import Drain, Scenario, load_scenario
from squall.chaos.timeline import timeline
from squall.core.config import Config
from squall.core.load_driver import LoadDriver


def scenario(folder: Path, driver: object, **others: object) -> Scenario:
    path = folder / "users.yaml"
    stage = {"for": "1s", "rate": 10} | ({"batch": 5} if others.pop("batch", False) else {})
    sections = {
        "version": 1,
        "name": "users",
        "target": "squall",
        "subscribers": {"billing": {"pattern": "order.>"}},
        "load": {"driver": driver, "stages": [stage], "events": [{"type": "order.created"}]},
    }
    path.write_text(json.dumps(sections | others), encoding="utf-8")
    return load_scenario(path, known=load_catalogue().known(Config()))


def made(read: Scenario) -> LoadDriver | None:
    catalogue = load_catalogue()
    return make_driver(read, make_target(read, Config(), catalogue), catalogue)


@pytest.mark.parametrize(
    ("driver", "says"),
    [
        ("locus", "there is no driver 'locus'"),
        (5, "expected a driver's name, or name: {options}, got 5"),
        ({"locust": {}, "other": {}}, "expected a driver's name"),
        ({"locust": {"user": 5}}, "'user' is not an option of locust"),
        ({"locust": {"users": 0}}, "users"),
        ({"locust": {"users": 2, "workers": 3}}, "3 workers need as many users at least, got 2"),
        ({"locust": {"users": 2, "workers": 1, "join": 2}}, "3 workers need as many users at least, got 2"),
        ({"locust": {"workers": 0}}, "somebody must publish: expected workers, or some that join, got none"),
        ({"locust": {"join": 1, "port": 80}}, "port"),
        ({"locust": {"join": 1, "join_within": "0s"}}, "join_within"),
    ],
)
def test_a_mistake_is_one_error_at_its_place(tmp_path: Path, driver: object, says: str) -> None:
    """Before anything starts."""
    with pytest.raises(ConfigError) as caught:
        scenario(tmp_path, driver)
    (problem,) = caught.value.problems
    assert says in str(problem)
    assert str(problem).startswith(f"{tmp_path}/users.yaml:1:")


@pytest.mark.parametrize("driver", ["locust", {"locust": None}, {"locust": {}}])
def test_its_name_alone_will_do(tmp_path: Path, driver: object) -> None:
    """The defaults are meant."""
    driver_made = made(scenario(tmp_path, driver))
    assert driver_made is not None
    assert driver_made.users == 20


def test_without_a_driver_the_bench_publishes(tmp_path: Path) -> None:
    assert made(scenario(tmp_path, None)) is None


def test_the_dry_run_says_who_publishes(tmp_path: Path) -> None:
    read = scenario(tmp_path, "locust")
    assert timeline(read, Drain(60.0, 10.0)).composed == "target squall · published by locust"


def test_a_target_that_takes_nothing_over_http_is_refused(tmp_path: Path) -> None:
    """It says which one takes it."""
    with pytest.raises(ConfigError, match=r"(?s)target in-process takes nothing there.*use target: squall"):
        made(scenario(tmp_path, "locust", target="in-process"))


def test_batches_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="locust publishes events one by one"):
        made(scenario(tmp_path, "locust", batch=True))


def test_without_locust_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the place in the scenario that asks for it; and doctor says the same."""

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    read = scenario(tmp_path, {"locust": {"users": 5}})
    monkeypatch.setattr("squall.plugins.locust.driver.version", missing)
    with pytest.raises(ConfigError) as caught:
        made(read)
    (problem,) = caught.value.problems
    assert "Locust is not installed" in str(problem)
    assert "pip install 'squall[locust]'" in str(problem)
    assert str(problem).startswith(f"{tmp_path}/users.yaml:1:")
    monkeypatch.setattr("squall.chaos.installed.version", missing)
    lacking = {piece.name: (piece.state, piece.get) for piece in pieces("locust")}
    assert lacking["locust"] == ("missing", "pip install 'squall[locust]'")


@pytest.mark.slow  # a process
def test_locust_is_never_imported_in_squalls_process() -> None:
    """It would change sockets and threads of the whole process."""
    program = (
        "import sys\n"
        "from squall.chaos.catalogue import load_catalogue\n"
        "assert 'locust' in load_catalogue().drivers\n"
        "import squall.chaos.run, squall.chaos.cli\n"
        "assert not {'gevent', 'locust'} & set(sys.modules), 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
