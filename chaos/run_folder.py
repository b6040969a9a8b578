"""Run folders: runs/<scenario>/<time>-<id>/, made, found and listed."""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from os import W_OK, X_OK, access, cpu_count
from os.path import lexists
from pathlib import Path

from squall.core.clock import Clock
from squall.core.errors import ConfigError, Problem, StoreFileError
from squall.core.options import did_you_mean

LATEST = "latest"
SCENARIO = "scenario.yaml"
ENVIRONMENT = "environment.json"
COMPOSED = "composition.json"
VERDICT = "verdict.json"
JUNIT = "junit.xml"
REPORT = "report.html"
LOG = "log.txt"
LIVE = "live.jsonl"
PROFILE = "profile.html"
_PACKAGES = ("squall", "apsw", "duckdb", "msgspec", "pluggy", "pyarrow", "pydantic")


def check_runs(runs: Path) -> None:
    """That run folders can be made in there, as far as can be seen without making any: of what is there, the nearest
    above is a folder that one may write to. Raises StoreFileError."""
    there = next(one for one in (runs.absolute(), *runs.absolute().parents) if lexists(one))
    if not there.is_dir():
        raise StoreFileError(_not_writable(runs, f"{there} is no folder"))
    if not access(there, W_OK | X_OK):
        raise StoreFileError(_not_writable(runs, f"no permission to write to {there}"))


def _not_writable(folder: Path, why: str) -> str:
    return f"{folder}: the run folder cannot be written ({why}); use --runs with a folder that can be"


def make_run_folder(
    runs: Path,
    scenario: str,
    source: str,
    seed: int,
    clock: Clock,
    run_id: str,
    sets: Mapping[str, bool | int | float | str] | None = None,
    soak_s: float | None = None,
) -> Path:
    """A new folder with the scenario's text and the environment in it; `sets` are variables that are not as the text
    says; `soak_s`: for how long it is soaked. Raises StoreFileError."""
    stamp = datetime.fromtimestamp(clock.time_ns() / 1e9, UTC).strftime("%Y%m%d-%H%M%S")
    folder = runs / scenario / f"{stamp}-{run_id}"
    environment = {
        "seed": seed,
        "sets": dict(sets or {}),
        "soak_s": soak_s,
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
    except OSError as error:
        raise StoreFileError(_not_writable(folder, error.strerror or str(error))) from error
    return folder


def point_latest(folder: Path) -> None:
    """Let `latest` beside folder point to it: its run has begun. Raises StoreFileError."""
    latest = folder.parent / LATEST
    try:
        latest.unlink(missing_ok=True)
        latest.symlink_to(folder.name)
    except OSError as error:
        raise StoreFileError(f"{latest}: cannot be written ({error.strerror or error}); remove it") from error


def discard_run_folder(folder: Path) -> None:
    """Remove the folder of a run that never began, and those above it that are empty then."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # there are other runs
        folder.parent.rmdir()
        folder.parent.parent.rmdir()


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
    """The folder of a run: a path, `scenario/latest`, `scenario/<id>`, `scenario`, `<id>`, the begin of an id that no
    other has, or `latest` of all.

    Raises ConfigError that names what there is.
    """
    newest = list_runs(runs)
    candidates = [Path(name), runs / name, runs / name / LATEST]
    candidates += [folder for folder in newest if name in (LATEST, folder.name)][:1]
    for candidate in candidates:
        if lexists(candidate / ENVIRONMENT):
            return candidate.resolve()
    begun = [folder for folder in newest if name and name in (folder.name[: len(name)], run_name(folder)[: len(name)])]
    if len(begun) == 1:
        return begun[0].resolve()
    if begun:
        hint = f"{', '.join(run_name(folder) for folder in begun[:3])}{', …' if len(begun) > 3 else ''}"
        raise ConfigError([Problem(f"{name:.80}", f"begins the names of {len(begun)} runs", hint=hint)])
    for candidate in candidates[:2]:
        if any(lexists(candidate / left) for left in (SCENARIO, VERDICT)):
            hint = "copy it back from where the run was made, or run the scenario again"
            raise ConfigError([Problem(f"{name:.80}", f"{candidate / ENVIRONMENT} is missing", hint=hint)])
    there = ", ".join(run_name(folder) for folder in newest[:3])
    near = did_you_mean(name, {folder.parent.name for folder in newest})
    hint = near or (f"the newest: {there}" if there else f"there is none in {runs} yet: squall run first-storm")
    raise ConfigError([Problem(f"{name:.80}" or "''", "there is no such run", hint=hint)])


def run_name(folder: Path) -> str:
    """`scenario/<id>`: by which `find_run` finds it in its runs folder."""
    return f"{folder.parent.name}/{folder.name}"
