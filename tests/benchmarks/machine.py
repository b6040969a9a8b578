"""The machine that measured, in words that tell nobody whose it is: no names of hosts, no paths."""

from __future__ import annotations

import os
import platform
import re
import sysconfig
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import apsw
from tests.benchmarks.rounds import Scale


def describe(scale: Scale) -> list[tuple[str, str]]:
    """What figures depend on, by name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return [
        ("CPU", f"{_cpu()}, {cores} cores"),
        ("memory", f"{memory_bytes / 2**30:.1f} GiB"),
        ("kernel", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}, {_build()}"),
        ("SQLite", f"{apsw.sqlite_lib_version()}, by apsw {apsw.apsw_version()}"),
        ("temporary files", _file_system(Path(tempfile.gettempdir()))),
        ("measured", f"{datetime.now(UTC):%Y-%m-%d}, {scale.name}, rounds: {scale.rounds}"),
    ]


def _cpu() -> str:
    """The CPU's model, where the kernel tells it."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)$", info.read_text(encoding="utf-8"), re.M) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def _build() -> str:
    """How the interpreter was built: builds of one version differ by more than half in speed."""
    arguments = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    flags = str(sysconfig.get_config_var("PY_CFLAGS") or "")
    level = re.findall(r"-O\w+", flags)[-1:] or ["unknown optimisation"]
    pgo = "with PGO" if "--enable-optimizations" in arguments else "without PGO"
    lto = "with LTO" if "--with-lto" in arguments else "without LTO"
    debug = ["debug build"] if sysconfig.get_config_var("Py_DEBUG") else []
    return ", ".join([*level, pgo, lto, *debug, platform.python_compiler()])


def _file_system(folder: Path) -> str:
    """The kind of file system that folder lies on: what a sync is worth, and costs, depends on it."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return "unknown"
    kinds = [(Path(line.split()[1]), line.split()[2]) for line in mounts.read_text(encoding="utf-8").splitlines()]
    around = [(len(where.parts), kind) for where, kind in kinds if folder.resolve().is_relative_to(where)]
    return max(around, default=(0, "unknown"), key=lambda one: one[0])[1]
