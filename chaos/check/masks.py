"""Who is owed what, and who got it, as one bit a subscription: the pass over every record that all findings use.

Subscriptions are taken in blocks of at most 63, events in ranges: memory is bounded whatever the history's size. One
aggregation a range folds publishes, attempts and terminals by event. What is wrong or needs a closer look goes into the
temporary tables `suspect` (pairs of event and subscription) and `odd` (events); everything else is only counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from squall.chaos.check.case import FOREVER, HANDLED, Case, Interval
from squall.chaos.check.matching import matches

BITS = 63
RANGE_EVENTS = 2_500_000


@dataclass(frozen=True)
class Totals:
    """Sums over all pairs of event and subscriber. `owed` and `acked` are by subscription id; acked: owed and handled.

    `first_begins` counts pairs that began at all, `attempts` calls of handlers, `foreign` those with events not of this
    run, `publishes` calls of publish, `events` what they were of. `undecidable` names subscribers with filters
    that the tables cannot answer.
    """

    owed: dict[int, int]
    acked: dict[int, int]
    first_begins: int
    attempts: int
    foreign: int
    publishes: int
    events: int
    acknowledged: int
    undecidable: tuple[str, ...]


@dataclass(frozen=True)
class _Block:
    number: int
    subscriptions: Sequence[int]
    intervals: Sequence[Interval]

    @property
    def word(self) -> str:
        width = next(width for width in (8, 16, 32, 64) if len(self.subscriptions) < width)
        return {8: "UTINYINT", 16: "USMALLINT", 32: "UINTEGER", 64: "UBIGINT"}[width]

    def bit(self, subscription: int) -> int:
        return 1 << self.subscriptions.index(subscription)


def sweep(case: Case) -> Totals:
    """Fill `suspect`, and count."""
    case.db.execute(
        "CREATE TEMP TABLE suspect (event BIGINT, subscription INTEGER, lost BOOLEAN, unhandled BOOLEAN, "
        "stray BOOLEAN, uninvited BOOLEAN)"
    )
    case.db.execute(
        "CREATE TEMP TABLE odd (event BIGINT, again BOOLEAN, phantom BOOLEAN, ghost BOOLEAN, altered BOOLEAN, "
        "renumbered BOOLEAN)"
    )
    static_from = _first_publish(case)
    owed: dict[int, int] = {}
    acked: dict[int, int] = {}
    undecidable: set[str] = set()
    begins = events = acknowledged = 0
    for block in _blocks(case, static_from):
        undecidable |= _make_fit(case, block, static_from)
        for condition in _ranges(case):
            case.db.execute(f"CREATE OR REPLACE TEMP TABLE ev AS {_fold(case, block, condition, static_from)}")
            counted = _count(case, block)
            begins += counted[0]
            if block.number == 0:
                events, acknowledged = events + counted[1], acknowledged + counted[2]
            for index, subscription in enumerate(block.subscriptions):
                owed[subscription] = owed.get(subscription, 0) + counted[3 + 2 * index]
                acked[subscription] = acked.get(subscription, 0) + counted[4 + 2 * index]
            _collect(case, block)
    case.db.execute("DROP TABLE IF EXISTS ev")
    attempts, foreign = case.rows("SELECT count(*), count(*) FILTER (event IS NULL) FROM attempt")[0]
    publishes = case.number("SELECT count(*) FROM publish")
    return Totals(owed, acked, begins, attempts, foreign, publishes, events, acknowledged, tuple(sorted(undecidable)))


def _first_publish(case: Case) -> tuple[int, int]:
    """The earliest invocation and the lowest seq of all: an interval that began before both holds from the start."""
    invoked, seq = case.rows("SELECT min(invoked), min(seq) FROM publish")[0]
    return (FOREVER if invoked is None else invoked), (FOREVER if seq is None else seq)


def _static(interval: Interval, first: tuple[int, int]) -> bool:
    """Whether everything that matches is owed: joined before the first publish, never left."""
    by_time = interval.join_ok is not None and interval.join_ok < first[0] and interval.leave_invoked is None
    if interval.begins_at_seq:
        return by_time and (interval.from_seq or 0) <= first[1] and interval.to_seq is None
    return by_time


def _blocks(case: Case, first: tuple[int, int]) -> Iterator[_Block]:
    subscriptions: list[int] = []
    intervals: list[Interval] = []
    moving = number = 0
    for subscription in case.subscribers:
        own = [i for i in case.intervals if i.subscription == subscription]
        own_moving = sum(not _static(i, first) for i in own)
        if subscriptions and (len(subscriptions) == BITS or moving + own_moving > BITS):
            yield _Block(number, tuple(subscriptions), tuple(intervals))
            subscriptions, intervals, moving, number = [], [], 0, number + 1
        subscriptions.append(subscription)
        intervals += own
        moving += own_moving
    yield _Block(number, tuple(subscriptions), tuple(intervals))


def _make_fit(case: Case, block: _Block, first: tuple[int, int]) -> set[str]:
    """Table `fit`: for each distinct topic and priority the subscriptions that match, those that are owed it all along,
    those that may get it all along; and, numbered among the intervals that are not static, those that match for sure
    (`partly`) and perhaps (`loosely`). Returns names with undecidable filters."""
    moving = [i for i in block.intervals if not _static(i, first)]
    undecidable: set[str] = set()
    rows = []
    pairs = case.rows(
        "SELECT p.type, p.priority, coalesce(t.name, '') FROM (SELECT DISTINCT type, priority FROM publish) p "
        "LEFT JOIN topic t ON t.topic = p.type"
    )
    for topic, priority, name in pairs:
        fit = always = could = partly = loosely = 0
        for interval in block.intervals:
            wanted = matches(interval.pattern, interval.filters, interval.priority_min, name, priority)
            bit = block.bit(interval.subscription)
            if wanted is None:
                undecidable.add(interval.name)
            if wanted is False:
                continue
            fit |= bit
            if interval in moving:
                loosely |= 1 << moving.index(interval)
                partly |= 1 << moving.index(interval) if wanted else 0
            else:
                could |= bit
                always |= bit if wanted else 0
        rows.append([topic, priority, fit, always, could, partly, loosely])
    case.db.execute(
        f"CREATE OR REPLACE TEMP TABLE fit (type INTEGER, priority TINYINT, fit {block.word}, always {block.word}, "
        f"could {block.word}, partly HUGEINT, loosely HUGEINT)"
    )
    if rows:
        case.db.executemany("INSERT INTO fit VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    case.db.execute(f"CREATE OR REPLACE TEMP TABLE bits (subscription INTEGER, bit {block.word})")
    if block.subscriptions:
        case.db.executemany("INSERT INTO bits VALUES (?, ?)", [[s, block.bit(s)] for s in block.subscriptions])
    return undecidable


def owed_for_sure(interval: Interval) -> str:
    """SQL: publish `p`, acknowledged, is owed under this interval (pattern and filters apart)."""
    if interval.join_ok is None:
        by_time = "false"
    else:
        by_time = f"p.invoked > {interval.join_ok}"
        if interval.leave_invoked is not None:
            by_time = f"({by_time} AND p.ended < {interval.leave_invoked})"
    if not interval.begins_at_seq:
        return by_time
    if not interval.durable:
        return f"({by_time} AND coalesce(p.seq >= {interval.from_seq}, false))"
    below = "" if interval.to_seq is None else f" AND p.seq < {interval.to_seq}"
    if interval.leave_is_unanswered:
        below = f" AND p.ended < {interval.leave_invoked}"
    return f"(CASE WHEN p.seq IS NULL THEN {by_time} ELSE p.seq >= {interval.from_seq}{below} END)"


def there(interval: Interval) -> str:
    """SQL: when publish `p`, acknowledged or unknown, went on, the interval had begun perhaps, and not ended yet."""
    # What is unknown may be stored long after its publisher was told so.
    begun = (
        "true"
        if interval.start != "new"
        else f"(p.outcome = 'info' OR coalesce(p.ended, {FOREVER}) >= {interval.join_invoked})"
    )
    return f"({begun} AND p.invoked <= {FOREVER if interval.leave_ok is None else interval.leave_ok})"


def owed_perhaps(interval: Interval) -> str:
    """SQL: publish `p`, acknowledged or unknown, may be owed under this interval, or not."""
    if not interval.durable or interval.from_seq is None or interval.leave_is_unanswered:
        return there(interval)
    return f"(p.seq IS NULL AND {there(interval)})"


def _must(block: _Block, first: tuple[int, int]) -> str:
    moving = [i for i in block.intervals if not _static(i, first)]
    terms = [
        f"CASE WHEN (f.partly & {1 << number}) <> 0 AND {owed_for_sure(interval)} "
        f"THEN {block.bit(interval.subscription)} ELSE 0 END::{block.word}"
        for number, interval in enumerate(moving)
    ]
    return " | ".join(["f.always", *terms])


def _may(block: _Block, first: tuple[int, int]) -> str:
    """SQL: who may get the publish `p`."""
    moving = [i for i in block.intervals if not _static(i, first)]
    terms = [
        f"CASE WHEN (f.loosely & {1 << number}) <> 0 AND (({owed_for_sure(interval)}) IS NOT DISTINCT FROM true "
        f"OR {there(interval)}) THEN {block.bit(interval.subscription)} ELSE 0 END::{block.word}"
        for number, interval in enumerate(moving)
    ]
    return " | ".join(["f.could", *terms]) if terms else "f.fit"


def _ranges(case: Case) -> list[str]:
    """Conditions on `event` that split the events evenly; one that is always true where the numbers don't allow it."""
    rows, low, high = case.rows("SELECT count(*), min(event), max(event) FROM publish")[0]
    if rows <= RANGE_EVENTS or high - low > 4 * rows:
        return ["true"]
    pieces = -(-rows // RANGE_EVENTS)
    edges = [low + (high - low) * piece // pieces for piece in range(1, pieces)]
    lower = ["", *(f"event >= {edge}" for edge in edges)]
    upper = [*(f"event < {edge}" for edge in edges), ""]
    return [" AND ".join(part for part in pair if part) for pair in zip(lower, upper, strict=True)]


def _fold(case: Case, block: _Block, condition: str, first: tuple[int, int]) -> str:
    word = block.word
    return f"""
        SELECT event, coalesce(bit_or(must), 0) AS must, coalesce(bit_or(fit), 0) AS fit,
            coalesce(bit_or(may), 0) AS may, coalesce(bit_or(begun), 0) AS begun, coalesce(bit_or(good), 0) AS good,
            coalesce(bit_or(acked), 0) AS acked, coalesce(bit_or(ended), 0) AS ended,
            coalesce(bit_or(outcomes), 0) AS outcomes, count(begun) AS begins, min(invoked) AS invoked,
            min(first) AS first, min(hash) AS least_hash, max(hash) AS greatest_hash,
            min(seq) AS least_seq, max(seq) AS greatest_seq
        FROM (
            SELECT event, CASE WHEN outcome = 'ok' THEN {_must(block, first)} END AS must, f.fit,
                CASE WHEN outcome <> 'fail' THEN {_may(block, first)} END AS may, NULL::{word} AS begun,
                NULL::{word} AS good, NULL::{word} AS acked, NULL::{word} AS ended,
                (CASE outcome WHEN 'ok' THEN 1 WHEN 'info' THEN 2 ELSE 4 END)::UTINYINT AS outcomes,
                invoked, NULL::BIGINT AS first, hash, seq
            FROM publish p JOIN fit f USING (type, priority) WHERE {condition}
            UNION ALL
            SELECT event, NULL, NULL, NULL, bit, CASE WHEN result = 'ok' THEN bit END, CASE WHEN {HANDLED} THEN bit END,
                NULL, NULL, NULL, begun, hash, seq
            FROM attempt a JOIN bits USING (subscription) WHERE event IS NOT NULL AND {condition}
            UNION ALL
            SELECT event, NULL, NULL, NULL, NULL, NULL, NULL, bit, NULL, NULL, NULL, NULL, NULL
            FROM terminal JOIN bits USING (subscription) WHERE {condition}
        ) GROUP BY event"""


def _count(case: Case, block: _Block) -> list[int]:
    """Pairs that began; events published, and acknowledged; then for each subscription how many are owed, and how many
    of those were handled."""
    sums = [
        "sum(bit_count(begun))",
        "count(*) FILTER (outcomes <> 0)",
        "count(*) FILTER ((outcomes & 1) <> 0)",
    ]
    for subscription in block.subscriptions:
        bit = block.bit(subscription)
        sums += [f"count(*) FILTER ((must & {bit}) <> 0)", f"count(*) FILTER ((must & acked & {bit}) <> 0)"]
    return [int(value or 0) for value in case.rows(f"SELECT {', '.join(sums)} FROM ev")[0]]


def _collect(case: Case, block: _Block) -> None:
    error = case.facts.clock_error_ns
    case.db.execute(
        """INSERT INTO suspect
        SELECT event, subscription, (must & ~(acked | ended) & bit) <> 0, (must & ~good & bit) <> 0,
            (begun & ~fit & bit) <> 0 AND outcomes <> 0, (begun & fit & ~may & bit) <> 0 AND (outcomes & 3) <> 0
        FROM ev JOIN bits ON ((must & ~(acked & good)) | (begun & ~(fit & may))) & bit <> 0
        WHERE (must & ~(acked & good)) <> 0 OR (begun & ~(fit & may)) <> 0"""
    )
    case.db.execute(
        f"""INSERT INTO odd
        SELECT event, begins > bit_count(begun), begun <> 0 AND (outcomes = 0 OR first < invoked - {error}),
            outcomes = 4 AND begun <> 0, least_hash <> greatest_hash, least_seq <> greatest_seq
        FROM ev
        WHERE begins > bit_count(begun) OR (begun <> 0 AND (outcomes = 0 OR outcomes = 4 OR first < invoked - {error}))
            OR least_hash <> greatest_hash OR least_seq <> greatest_seq"""
    )
