"""docker-compose.yml: what compose itself makes of it, and that it has the versions that the tests run against.

No container engine runs in continuous integration, so nothing here starts a container.
"""

import re
import subprocess
from importlib.metadata import metadata, version
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.needed import needed

from squall.core.config import load_config
from squall.plugins.serve.command import with_serve
from squall.plugins.sqlite import SqlitePlugin

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
SERVERS = ("redis", "neo4j", "toxiproxy", "jaeger", "serve")
NAMES = (*SERVERS, "dashboard")


@pytest.fixture(scope="module")
def composed() -> Any:
    """The file as `docker-compose config` understands it."""
    program = needed("docker-compose", "apt-get install docker-compose")
    said = subprocess.run(
        [program, "--file", COMPOSE, "--profile", "dashboard", "config"], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    return yaml.safe_load(said.stdout)


@pytest.fixture(scope="module")
def written() -> Any:
    """The file as it is written: what can be looked at without compose."""
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))


def test_compose_understands_it(composed: Any, written: Any) -> None:
    """Every service and every volume."""
    assert composed["services"].keys() == written["services"].keys() == set(NAMES)
    assert composed["volumes"].keys() == written["volumes"].keys()


@pytest.mark.parametrize("name", NAMES)
def test_version_is_pinned(written: Any, name: str) -> None:
    """To the last number, and no image comes from elsewhere than by its name."""
    assert re.fullmatch(r"[\w-]+(/[\w-]+)?:\d+\.\d+\.\d+(-\w+)?", written["services"][name]["image"])


@pytest.mark.parametrize("name", SERVERS)
def test_port_is_open_on_loopback_alone(written: Any, name: str) -> None:
    """None of them asks for a password."""
    ports = written["services"][name]["ports"]
    assert ports
    assert all(re.fullmatch(r"127\.0\.0\.1:[\d-]+:[\d-]+", port) for port in ports)


@pytest.mark.parametrize("name", NAMES)
def test_health_is_checked(written: Any, name: str) -> None:
    """So that `--wait` waits for what answers, and not for ever."""
    assert written["services"][name]["healthcheck"].keys() == {"test", "interval", "timeout", "retries"}


def test_serve_is_what_this_repository_has(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its version, its Dockerfile, and a configuration that squall takes, with the port and the volume of the file."""
    service = written["services"]["serve"]
    assert service["image"] == f"squall-serve:{version('squall')}"
    build = service["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).exists()
    ((variable, value),), (port,), (volume,) = service["environment"].items(), service["ports"], service["volumes"]
    monkeypatch.setenv(variable, value.partition(":-")[2].rstrip("}"))
    configured = load_config(ROOT / "services/serve.yaml")
    plugins, options = with_serve(configured, None, None)
    assert port == f"127.0.0.1:{options.port}:{options.port}"
    stored = next(plugin.options for plugin in plugins if isinstance(plugin, SqlitePlugin))
    assert Path(stored.path).parent == Path(volume.partition(":")[2])


def test_dashboard_looks_at_what_was_run_here(written: Any) -> None:
    """This version's, at the host's loopback, on a port that no other service has there; it cannot write."""
    service = written["services"]["dashboard"]
    assert (service["profiles"], service["network_mode"], "ports" in service) == (["dashboard"], "host", False)
    assert service["image"] == f"squall-dashboard:{version('squall')}"
    build = service["build"]
    dockerfile = (ROOT / build["context"] / build["dockerfile"]).read_text(encoding="utf-8")
    assert "ARG EXTRAS=" in dockerfile
    assert build["args"]["EXTRAS"] in metadata("squall").get_all("Provides-Extra", [])
    verb, runs, folder, option, port = service["command"]
    assert (verb, runs, option) == ("dashboard", "--runs", "--port")
    (volume,) = service["volumes"]
    assert volume == {"type": "bind", "source": "./runs", "target": folder, "read_only": True}
    taken = [mapped.split(":")[1] for name in SERVERS for mapped in written["services"][name]["ports"]]
    for first, _, last in (one.partition("-") for one in taken):
        assert not int(first) <= int(port) <= int(last or first), "a server of the file has this port"
    assert f"http://127.0.0.1:{port}/_stcore/health" in service["healthcheck"]["test"][-1]


def test_redis_writes_before_it_acknowledges(written: Any) -> None:
    """And keeps its file over the container's end."""
    redis = written["services"]["redis"]
    assert " ".join(redis["command"]).endswith("--appendonly yes --appendfsync always")
    assert redis["volumes"] == ["redis:/data"]


def test_versions_are_those_that_are_tested(written: Any) -> None:
    """Containers and `make services` bring the same Neo4j and Toxiproxy."""
    services = written["services"]
    neo4j = re.search(r"<neo4j.version>(.+)</neo4j.version>", (ROOT / "services/pom.xml").read_text(encoding="utf-8"))
    toxiproxy = re.search(r"^toxiproxy=(.+)$", (ROOT / "services/install").read_text(encoding="utf-8"), re.MULTILINE)
    assert neo4j is not None
    assert toxiproxy is not None
    assert services["neo4j"]["image"] == f"neo4j:{neo4j[1]}-community"
    assert services["toxiproxy"]["image"] == f"squall-toxiproxy:{toxiproxy[1]}"
    build = services["toxiproxy"]["build"]
    assert build["args"] == {"VERSION": toxiproxy[1]}
    assert (ROOT / build["context"] / build["dockerfile"]).exists()
