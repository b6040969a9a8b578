"""How fast the checker is, and how much memory it takes: a clean history of a million records, and of ten million.

Four subscribers, 200 keys, one attempt in a hundred redelivered. The peak is that of the whole process, with the
libraries that it loads.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
from tests.benchmarks.rounds import Sample, Scale, alternate, child, median, progress
from tests.benchmarks.table import Bar, Row

from squall.chaos.check.engine import check
from squall.chaos.check.expectations import Duplicates, Latency, NoLoss, Order
from squall.chaos.check.facts import RunFacts, Span
from squall.chaos.history import HistoryWriter
from squall.core.target import Claims

SUBSCRIBERS = 4
SIZES = (1_000_000, 10_000_000)
GAP_NS = 4_000
BAR_SPEED, BAR_PEAK = Bar("≥", 500_000, "records/s"), Bar("<", 1_024, "MiB")
_RSS_BYTES = 1 if sys.platform == "darwin" else 1024


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


def make(folder: str, records: int) -> Sample:
    """Write the history; how many records it has."""
    make_history(Path(folder), records)
    return {"records": records}


def judge(folder: str) -> Sample:
    """Check the history: `records` a second, and `peak`, the most of this process that was resident, MiB."""
    facts = RunFacts(load=Span(0, 10**15), drain=Span(10**15, 10**15 + 1), drained=True)
    began = time.perf_counter()
    expectations = [NoLoss(), Duplicates(), Order(), Latency(p99=1.0)]
    verdict = check(Path(folder), Claims(durability="disk"), expectations, facts)
    took_s = time.perf_counter() - began
    if verdict.state != "valid":
        raise RuntimeError(f"a clean history was found {verdict.state}")
    return {
        "records": verdict.records / took_s,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_BYTES / 2**20,
    }


def measure(scale: Scale) -> list[Row]:
    """Speed and memory at a million records, and, in full, at ten million."""
    rows = []
    for full in SIZES if scale.share == 1 else SIZES[:1]:
        records = scale.of(full)
        with TemporaryDirectory() as folder:
            history = str(Path(folder) / "history")
            progress(f"checker, {records:,} records: making the history")
            child(make, folder=history, records=records)
            found = alternate(judge, {"squall": {"folder": history}}, scale, f"checker, {records:,} records")
        job, ours = f"{records:,} records", found["squall"]
        rows += [
            Row("checker", f"{job}: speed", median(ours, "records"), "records/s", bar=BAR_SPEED),
            Row("checker", f"{job}: peak memory", median(ours, "peak"), "MiB", bar=BAR_PEAK),
        ]
    return rows
