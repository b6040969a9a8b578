"""Measures squall beside its limits and its peers, each in a process of its own, and prints one table.

    python -m tests.benchmarks [--only PART …] [--quick] [--write]

Alternating rounds; figures are medians, ratios the medians of the ratios within each round. Progress goes to stderr.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks import (
    burst,
    checker,
    dashboard,
    drivers,
    durable,
    matching,
    memory,
    neo4j,
    network,
    pieces,
    recording,
    redis,
    remote,
    tracing,
)
from tests.benchmarks.machine import describe
from tests.benchmarks.rounds import FULL, QUICK, ROOT, Scale
from tests.benchmarks.table import Row, as_markdown, as_text, write

PAGE = ROOT / "docs" / "benchmarks.md"
PARTS: dict[str, Callable[[Scale], list[Row]]] = {
    "throughput": memory.measure_throughput,
    "latency": memory.measure_latency,
    "burst": burst.measure,
    "durable": durable.measure,
    "remote": remote.measure,
    "drivers": drivers.measure,
    "redis": redis.measure,
    "neo4j": neo4j.measure,
    "proxies": network.measure,
    "recording": recording.measure,
    "tracing": tracing.measure,
    "checker": checker.measure,
    "dashboard": dashboard.measure,
    "matching": matching.measure,
    "pieces": pieces.measure,
}


def run(parts: Sequence[str], scale: Scale, page: Path | None = None) -> list[Row]:
    """Measure the parts, print their table, and put it into the page where one is given. Where a part fails, the others
    are measured and printed all the same; then raises ExceptionGroup, and leaves the page as it was."""
    rows, failed = [], []
    for part in parts:
        try:
            rows += PARTS[part](scale)
        except RuntimeError as error:
            failed.append(error)
    print(as_text(rows))
    if failed:
        raise ExceptionGroup("these parts were not measured", failed)
    if page is not None:
        write(page, as_markdown(rows, describe(scale)))
    return rows


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument(
        "--quick", action="store_true", help="one short round of each: do they run? Figures mean nothing"
    )
    parser.add_argument("--write", action="store_true", help="put the table, and what this machine is, into the docs")
    options = parser.parse_args()
    run(options.only, QUICK if options.quick else FULL, PAGE if options.write else None)


if __name__ == "__main__":
    main()
