"""The spans of a run, completed from what the recorder wrote, and made one file.

A tracer that keeps a failed event knows it from its failure on. The history has the rest: the publish, the attempts
at other subscribers, and the publishes that failed.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from squall.chaos.history import open_history
from squall.core.errors import StoreFileError

SPANS = "spans"
MAX_FAILED = 10_000

_SPAN = "CREATE TABLE span AS SELECT * FROM read_parquet($files)"

NUMBERED = """
SELECT n.event, seq, p.event AS number FROM named n JOIN publish p USING (seq)
LEFT JOIN topic t ON t.topic = p.type LEFT JOIN key k ON k.key = p.key
QUALIFY row_number() OVER (PARTITION BY n.event, seq ORDER BY p.invoked <= n.begun DESC,
    t.name IS NOT DISTINCT FROM n.topic DESC, k.name IS NOT DISTINCT FROM n.key DESC, p.invoked DESC) = 1
"""
"""Which event of the history a traced one is, by `named`: event, seq, topic, key, begun. Two routers, or a store in
memory that was restarted, give a seq twice: of several events with its seq it is the one with its type and key that
was published last before the router's first span of it."""

# What is known of each kept event: whose publish it is, as its deliveries say.
_NAMED = """
CREATE TABLE named AS
SELECT event, seq, any_value(links[1].trace) AS trace, any_value(links[1].span) AS span, any_value(topic) AS topic,
    any_value(source) AS source, any_value(correlation) AS correlation, any_value(key) AS key,
    any_value(priority) AS priority, any_value(size) AS size, any_value(wall - begun) AS offset_ns,
    any_value(why) AS why, min(begun) AS begun
FROM span WHERE partial AND operation = 'process' AND seq IS NOT NULL GROUP BY event, seq
"""
_KEPT = f"CREATE TABLE kept AS SELECT n.* EXCLUDE begun, number FROM named n LEFT JOIN ({NUMBERED}) USING (event, seq)"

_EVENT = "topic, event, source, correlation, key, priority, size, seq, why, false AS partial, $attributes AS attributes"

_PUBLISHES = f"""
CREATE TABLE rebuilt AS
SELECT trace, span, NULL::VARCHAR AS parent, 'publish' AS operation, p.begun, p.ended, p.begun + offset_ns AS wall,
    {_EVENT}
FROM kept k JOIN (
    SELECT event AS number, seq, min(invoked) AS begun, max(coalesce(ended, invoked)) AS ended
    FROM publish WHERE outcome = 'ok' GROUP BY event, seq
) p USING (number, seq)
WHERE NOT EXISTS (FROM span s WHERE s.trace = k.trace AND s.span = k.span)
"""

# An attempt came with the event's seq, and not to another one of that seq. (What was made of it on the way may be told
# by its seq alone.)
_ATTEMPTS = """
CREATE TABLE other AS
SELECT k.*, k.span AS origin, substr(md5(concat_ws('/', k.trace, a.subscription, a.begun)), 1, 16) AS own,
    n.name AS subscription, a.attempt, a.begun, coalesce(a.ended, a.begun) AS ended, a.result, a.settlement,
    a.settle_invoked, a.settle_ok, a.event AS handled, a.subscription AS subscriber
FROM kept k
JOIN attempt a ON a.seq = k.seq
JOIN (SELECT DISTINCT subscription, name FROM subscription) n ON n.subscription = a.subscription
WHERE (a.event IS NOT DISTINCT FROM k.number
    OR NOT EXISTS (FROM publish p WHERE p.seq = a.seq AND p.event = a.event AND p.outcome = 'ok'))
AND NOT EXISTS (
    FROM span s WHERE s.event = k.event AND s.seq = a.seq AND s.subscription = n.name AND s.operation = 'process'
    AND a.begun BETWEEN s.begun AND s.ended)
"""

_PROCESSES = f"""
INSERT INTO rebuilt BY NAME
SELECT trace, own AS span, origin AS parent, 'process' AS operation, subscription, attempt, begun, ended,
    begun + offset_ns AS wall, CASE WHEN result <> 'ok' THEN result::VARCHAR END AS error,
    [{{trace: trace, span: origin, what: 'publish'}}] AS links,
    (SELECT list({{time: h.time, name: 'fault',
            attributes: json_object('squall.fault', f.name, 'squall.seam', f.seam)}})
        FROM fault_hit h JOIN fault f ON f.fault = h.fault
        WHERE h.event = handled AND h.subscription = subscriber AND h.time BETWEEN other.begun AND other.ended)
        AS events,
    {_EVENT}
FROM other
"""

_SETTLEMENTS = f"""
INSERT INTO rebuilt BY NAME
SELECT trace, substr(md5(own), 1, 16) AS span, own AS parent, subscription, attempt, settle_invoked AS begun,
    replace(settlement::VARCHAR, 'term', 'dead_letter') AS operation, settle_ok AS ended,
    settle_invoked + offset_ns AS wall, {_EVENT}
FROM other WHERE settle_ok IS NOT NULL
"""

# A publish that failed has no seq and no id that the history knows: it is a trace of its own.
_FAILED = f"""
INSERT INTO rebuilt BY NAME
SELECT md5('trace' || p.op) AS trace, substr(md5('span' || p.op), 1, 16) AS span, 'publish' AS operation,
    t.name AS topic, p.invoked AS begun, p.ended, p.invoked + (SELECT any_value(wall - begun) FROM span) AS wall,
    'failed' AS why, false AS partial, p.outcome::VARCHAR AS error, $attributes AS attributes
FROM publish p JOIN topic t ON t.topic = p.type
WHERE p.outcome <> 'ok' AND p.ended IS NOT NULL AND NOT EXISTS (
    FROM span s WHERE s.operation = 'publish' AND s.seq IS NULL AND s.begun BETWEEN p.invoked AND p.ended)
ORDER BY p.op LIMIT {MAX_FAILED}
"""

_COLUMNS = (
    "ALTER TABLE rebuilt ADD COLUMN subscription VARCHAR",
    "ALTER TABLE rebuilt ADD COLUMN attempt BIGINT",
    "ALTER TABLE rebuilt ADD COLUMN error VARCHAR",
    "ALTER TABLE rebuilt ADD COLUMN links STRUCT(trace VARCHAR, span VARCHAR, what VARCHAR)[]",
    'ALTER TABLE rebuilt ADD COLUMN events STRUCT("time" BIGINT, name VARCHAR, attributes VARCHAR)[]',
)

# One that was traced from its begin on did not learn there how it ended.
_ENDINGS = """
UPDATE span SET error = f.outcome::VARCHAR, ended = f.ended
FROM (
    SELECT s.trace, s.span, p.outcome, p.ended FROM span s
    JOIN publish p ON s.begun BETWEEN p.invoked AND p.ended JOIN topic t ON t.topic = p.type AND t.name = s.topic
    WHERE s.operation = 'publish' AND s.seq IS NULL AND p.outcome <> 'ok'
    QUALIFY row_number() OVER (PARTITION BY s.trace, s.span ORDER BY p.invoked DESC) = 1
) f
WHERE span.trace = f.trace AND span.span = f.span
"""

_WHOLE = """
UPDATE span SET partial = false, parent = coalesce(parent, links[1].span)
WHERE partial AND EXISTS (FROM rebuilt r WHERE r.trace = span.trace AND r.operation = 'publish')
"""

_REBUILT = '{"squall.rebuilt":true}'


def complete_spans(folder: Path) -> None:
    """Complete the spans in a run's folder, where it has any, from its history, which is finished. Raises
    StoreFileError; the spans are as they were then."""
    files = sorted((folder / SPANS).glob("spans-*.parquet"))
    if not files:
        return
    whole = folder / SPANS / "spans.parquet"
    temporary = whole.with_suffix(".tmp-0")
    try:
        with open_history(folder / "history", folder) as db:
            db.execute(_SPAN, {"files": [str(file) for file in files]})
            db.execute(_NAMED)
            db.execute(_KEPT)
            db.execute(_PUBLISHES, {"attributes": _REBUILT})
            for column in _COLUMNS:
                db.execute(column)
            db.execute(_ATTEMPTS)
            for step in (_PROCESSES, _SETTLEMENTS, _FAILED):
                db.execute(step, {"attributes": _REBUILT})
            db.execute(_ENDINGS)
            db.execute(_WHOLE)
            db.execute("INSERT INTO span BY NAME SELECT * FROM rebuilt")
            name = str(temporary).replace("'", "''")
            db.execute(f"COPY (FROM span ORDER BY begun) TO '{name}' (FORMAT parquet, COMPRESSION zstd)")
        temporary.replace(whole)
        for file in files:
            file.unlink()
    except (OSError, duckdb.Error) as error:
        raise StoreFileError(f"{folder / SPANS}: the spans cannot be completed ({error})") from error
