"""How fast the checker is, and how much memory it takes: a clean history of a million records, and of ten million.

Four subscribers, 200 keys, one attempt in a hundred redelivered; each size in a fresh child process.
Run it with `python tests/benchmarks/checker.py [records …]`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from squall.chaos.check.engine import check
from squall.chaos.check.expectations import Duplicates, Latency, NoLoss, Order
from squall.chaos.check.facts import RunFacts, Span
from squall.chaos.history import HistoryWriter
from squall.core.target import Claims

SUBSCRIBERS = 4
SIZES = (1_000_000, 10_000_000)
GAP_NS = 4_000
BAR_PER_S = 500_000
BAR_BYTES = 1 << 30


def make_history(folder: Path, records: int) -> None:
    """A clean history: `records` publishes and attempts together."""
    events = round(records / (1 + SUBSCRIBERS * 1.01))
    writer = HistoryWriter(folder)
    writer.append("topic", {"topic": list(range(20)), "name": [f"order.kind{n}" for n in range(20)]})
    writer.append("key", {"key": list(range(200)), "name": [f"k-{n}" for n in range(200)]})
    rows = range(SUBSCRIBERS)
    writer.append(
        "subscription",
        {
            "subscription": list(rows),
            "name": [f"service{n}" for n in rows],
            "pattern": ["order.>"] * SUBSCRIBERS,
            "durable": [True] * SUBSCRIBERS,
            "delivery": ["at-least-once"] * SUBSCRIBERS,
            "start": ["new"] * SUBSCRIBERS,
            "on_retry": ["skip"] * SUBSCRIBERS,
            "concurrency": [32] * SUBSCRIBERS,
            "timeout": [2_000_000_000] * SUBSCRIBERS,
            "join_invoked": [-20] * SUBSCRIBERS,
            "join_ok": [-10] * SUBSCRIBERS,
        },
    )
    writer.append(
        "counter",
        {
            "time": [10**15] * SUBSCRIBERS,
            "name": ["pending"] * SUBSCRIBERS,
            "subscription": list(rows),
            "value": [0] * 4,
        },
    )
    with duckdb.connect() as db:
        db.execute("SET threads = 2; SET preserve_insertion_order = true")
        db.execute(f"SET temp_directory = '{folder}'")
        _copy(db, folder / "publish-000000.parquet", _PUBLISH.format(events=events, gap=GAP_NS))
        _copy(
            db, folder / "attempt-000000.parquet", _ATTEMPT.format(events=events, gap=GAP_NS, subscribers=SUBSCRIBERS)
        )
        writer.rows["publish"] = events
        found = db.execute(f"SELECT count(*) FROM '{folder}/attempt-000000.parquet'").fetchone()
        writer.rows["attempt"] = found[0] if found else 0
    writer.compact()


_PUBLISH = """
    SELECT i AS op, i AS event, 0::INTEGER AS process, (i % 20)::INTEGER AS type, (hash(i) % 200)::INTEGER AS key,
        2::TINYINT AS priority, NULL::BIGINT AS ttl, i * {gap} AS intended, i * {gap} + 100 AS invoked,
        i * {gap} + 1500 AS ended, 'ok' AS outcome, i + 1 AS seq, 0::INTEGER AS seq_scope, false AS duplicate,
        (hash(i) >> 1)::BIGINT AS hash
    FROM range({events}) t(i)"""

_ATTEMPT = """
    SELECT event, subscription, attempt, 0::INTEGER AS process, 0::INTEGER AS worker,
        (hash(event) % 200)::INTEGER AS key, 2::TINYINT AS priority, event + 1 AS seq, begun, begun + 800 AS ended,
        CASE WHEN failed THEN 'error' ELSE 'ok' END AS result, CASE WHEN failed THEN 'nak' ELSE 'ack' END AS settlement,
        begun + 900 AS settle_invoked, begun + 1000 AS settle_ok, 'ok' AS settle_answer, false AS by_handler,
        (hash(event) >> 1)::BIGINT AS hash
    FROM (
        SELECT i AS event, s::INTEGER AS subscription, n::INTEGER AS attempt,
            i * {gap} + 2000 + s * 10 + (n - 1) * 50001500 AS begun, n = 1 AND hash(i, s) % 100 = 0 AS failed
        FROM range({events}) t(i), range({subscribers}) u(s), range(1, 3) v(n)
        WHERE n = 1 OR hash(i, s) % 100 = 0)
    ORDER BY begun"""


def _copy(db: duckdb.DuckDBPyConnection, path: Path, sql: str) -> None:
    db.execute(f"COPY ({sql}) TO '{path}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880)")


def measure(folder: Path) -> dict[str, float | str]:
    """Check the history in folder; seconds, and the peak of this process's resident memory in bytes."""
    facts = RunFacts(load=Span(0, 10**15), drain=Span(10**15, 10**15 + 1), drained=True)
    started = time.perf_counter()
    expectations = [NoLoss(), Duplicates(), Order(), Latency(p99=1.0)]
    verdict = check(folder, Claims(durability="disk"), expectations, facts)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"state": verdict.state, "records": verdict.records, "seconds": seconds, "peak_bytes": peak}


def main(sizes: list[int]) -> None:
    """Print one line a size."""
    print(f"{'records':>12} {'records/s':>12} {'resident':>10}   bars: {BAR_PER_S:,}/s, {BAR_BYTES >> 20:,} MiB")
    for records in sizes:
        with TemporaryDirectory(prefix="squall-bench-") as folder:
            history = Path(folder) / "history"
            make = [sys.executable, __file__, "--make", str(records), str(history)]
            subprocess.run(make, check=True)
            child = [sys.executable, __file__, "--measure", str(history)]
            found = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
        rate = found["records"] / found["seconds"]
        resident = f"{found['peak_bytes'] / (1 << 20):,.0f} MiB"
        print(f"{found['records']:>12,} {rate:>12,.0f} {resident:>10}   {found['state']}, {found['seconds']:.1f} s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make_history(Path(sys.argv[3]), int(sys.argv[2]))
    elif sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(Path(sys.argv[2]))))
    else:
        main([int(argument) for argument in sys.argv[1:]] or list(SIZES))
