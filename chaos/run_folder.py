"""Run folders: runs/<scenario>/<time>-<id>/, made, found and listed."""

from __future__ import annotations

import contextlib
import json
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from os import cpu_count
from pathlib import Path

from squall.core.clock import Clock
from squall.core.errors import ConfigError, StoreFileError

LATEST = "latest"
SCENARIO = "scenario.yaml"
ENVIRONMENT = "environment.json"
VERDICT = "verdict.json"
_PACKAGES = ("squall", "apsw", "duckdb", "msgspec", "pluggy", "pyarrow", "pydantic")


def make_run_folder(runs: Path, scenario: str, source: str, seed: int, clock: Clock, run_id: str) -> Path:
    """A new folder with the scenario's text and the environment in it. Raises StoreFileError."""
    stamp = datetime.fromtimestamp(clock.time_ns() / 1e9, UTC).strftime("%Y%m%d-%H%M%S")
    folder = runs / scenario / f"{stamp}-{run_id}"
    environment = {
        "seed": seed,
        "started": datetime.fromtimestamp(clock.time_ns() / 1e9, UTC).isoformat(timespec="seconds"),
        "python": f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": cpu_count(),
        "optimized": bool(sys.flags.optimize),
        "versions": _versions(),
    }
    try:
        folder.mkdir(parents=True)
        (folder / SCENARIO).write_text(source, encoding="utf-8")
        (folder / ENVIRONMENT).write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")
        latest = runs / scenario / LATEST
        latest.unlink(missing_ok=True)
        latest.symlink_to(folder.name)
    except OSError as error:
        raise StoreFileError(
            f"{folder}: the run folder cannot be written ({error.strerror or error}); "
            "use --runs with a folder that can be"
        ) from error
    return folder


def _versions() -> dict[str, str]:
    """What of the packages that matter is installed."""
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def list_runs(runs: Path) -> list[Path]:
    """All run folders, newest first."""
    found = [path.parent for path in runs.glob(f"*/*/{ENVIRONMENT}") if not path.parent.is_symlink()]
    return sorted(found, key=lambda folder: folder.name, reverse=True)


def find_run(runs: Path, name: str) -> Path:
    """The folder of a run: a path, `scenario/latest`, `scenario/<id>`, `scenario`, or `latest` of all.

    Raises ConfigError that names what there is.
    """
    newest = list_runs(runs)
    candidates = [Path(name), runs / name, runs / name / LATEST]
    if name == LATEST and newest:
        candidates.append(newest[0])
    for candidate in candidates:
        if (candidate / ENVIRONMENT).exists():
            return candidate.resolve()
    there = ", ".join(str(folder.relative_to(runs)) for folder in newest[:3]) or f"none in {runs}"
    raise ConfigError(f"there is no run '{name}'; the newest: {there}")
