"""What is shipped works alone: the wheel in an empty environment, and the same wheel by way of the sdist."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("core", "plugins", "chaos", "dashboards", "protos")

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Installed:
    """An environment that holds the wheel and what it asks for, nothing else, and an empty folder to work in."""

    bin: Path
    folder: Path

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment, cut off from the checkout and from the environment of the tests."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_"))}
        return subprocess.run(
            [str(self.bin / command), *arguments],
            cwd=self.folder,
            env=environment | {"PATH": f"{self.bin}{os.pathsep}{os.defpath}"},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def python(self, program: str) -> str:
        """What a program prints. Raises CalledProcessError with its output when it fails."""
        result = self.run("python", "-c", program)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel built from a copy of the tree, and the one built from the sdist."""
    copy = tmp_path_factory.mktemp("source") / "squall"
    hidden = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist", "runs", "data")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=hidden)
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation"]
    for arguments in (["--wheel", "--outdir", str(out / "direct")], ["--outdir", str(out / "by-sdist")]):
        subprocess.run([*build, *arguments, str(copy)], check=True, capture_output=True)
    (direct,) = (out / "direct").glob("*.whl")
    (by_sdist,) = (out / "by-sdist").glob("*.whl")
    return direct, by_sdist


@pytest.fixture(scope="module")
def installed(wheels: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in an environment of its own.

    What it requires is linked from the environment of the tests, distribution by distribution, so that nothing is
    downloaded and nothing that the wheel does not ask for can be imported.
    """
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    install = [
        sys.executable,
        "-m",
        "pip",
        "--quiet",
        "--python",
        str(environment),
        "install",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*install, str(wheels[0])], check=True, capture_output=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (metadata,) = packages.glob("squall-*.dist-info")
    for required in closure(Distribution.at(metadata)):
        for entry in entries(required):
            if not (packages / entry.name).exists():
                (packages / entry.name).symlink_to(entry)
    return Installed(environment / "bin", tmp_path_factory.mktemp("empty"))


def closure(root: Distribution) -> list[Distribution]:
    """The distributions that a distribution requires, and what those require."""
    found: dict[str, Distribution] = {}
    waiting = [root]
    while waiting:
        for text in waiting.pop().requires or ():
            requirement = Requirement(text)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and requirement.name not in found:
                found[requirement.name] = distribution(requirement.name)
                waiting.append(found[requirement.name])
    return list(found.values())


def entries(installed: Distribution) -> Iterator[Path]:
    """The files and folders that a distribution has put directly into site-packages."""
    for name in {file.parts[0] for file in installed.files or () if file.parts[0] not in ("..", "__pycache__")}:
        yield Path(str(installed.locate_file(name)))


def contents(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel, without its own list of them."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}


def test_wheel_holds_the_package_and_nothing_else(wheels: tuple[Path, Path]) -> None:
    """Every module, template and scenario is in it; no test, no tool, no generated file."""
    expected = {"squall/__init__.py", "squall/__main__.py", "squall/py.typed"}
    for folder in (*FOLDERS, "scenarios"):
        files = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        expected |= {f"squall/{path.relative_to(ROOT).as_posix()}" for path in files}
    found = {name for name in contents(wheels[0]) if ".dist-info/" not in name}
    assert found == expected


def test_sdist_makes_the_same_wheel(wheels: tuple[Path, Path]) -> None:
    """Who builds from the sdist gets what was released."""
    direct, by_sdist = wheels
    assert contents(direct) == contents(by_sdist)


def test_wheel_stands_alone(installed: Installed) -> None:
    """The package comes from the wheel, and the tools of development are not within reach."""
    assert installed.python("import squall; print(squall.__file__)").startswith(str(installed.bin.parent))
    assert installed.run("python", "-c", "import pytest").returncode != 0


def test_every_entry_point_loads(installed: Installed) -> None:
    """Plugins, defaults and the command are what the metadata says."""
    program = (
        "from importlib.metadata import entry_points as all_of\n"
        "found = [e for g in ('squall.plugins', 'squall.defaults', 'squall.fallback_store') for e in all_of(group=g)]\n"
        "print(len(found), *(e.load().__name__ for e in found))"
    )
    assert int(installed.python(program).split()[0]) >= 11


def test_command_answers(installed: Installed) -> None:
    """`squall --help` and `python -m squall --help` say the same."""
    command, module = installed.run("squall", "--help"), installed.run("python", "-m", "squall", "--help")
    assert command.returncode == 0, command.stderr
    assert "run" in command.stdout
    assert module.returncode == 0, module.stderr


def test_wheel_writes_plugins(installed: Installed) -> None:
    """The templates are in it."""
    for kind in ("middleware", "fault", "invariant", "target", "page"):
        written = installed.run("squall", "plugins", "new", f"storm-{kind}", "--kind", kind)
        assert written.returncode == 0, written.stderr
        assert (installed.folder / f"storm-{kind}" / "try-it.yaml").exists()


def test_wheel_runs_its_own_scenario(installed: Installed) -> None:
    """All scenarios of the wheel are valid, but for those that say which extra they need; and one of them runs to its
    verdict in an empty folder."""
    program = "from importlib.resources import files; print(files('squall') / 'scenarios')"
    scenarios = Path(installed.python(program).strip())
    names = sorted(str(path) for path in scenarios.glob("*.yaml"))
    assert len(names) == len(list((ROOT / "scenarios").glob("*.yaml")))
    store_is_redis = [name for name in names if Path(name).stem in ("redis-latency", "redis-cut")]
    validated = installed.run("squall", "validate", *sorted({*names} - {*store_is_redis}))
    assert validated.returncode == 0, validated.stdout + validated.stderr
    wanting = installed.run("squall", "validate", *store_is_redis)
    assert wanting.stderr.count("pip install 'squall[redis]'") == len(store_is_redis) == 2, wanting.stderr
    ran = installed.run("squall", "run", str(scenarios / "calm.yaml"))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert list((installed.folder / "runs").glob("calm/*/verdict.json"))
