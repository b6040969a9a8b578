"""Subscriptions, cursors, attempts and dead letters as rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import apsw
import msgspec

from squall.core.store import AttemptRow, Cursor, DeadLetter, DurableSpec, Redrive, Settlement
from squall.plugins.sqlite.codec import COLUMNS, PLACES, TypeNumbers, decode_event, encode_events

_LETTER = (
    "subscription_id, subscription, pattern, reason, attempts, first, last, "
    "error_type, error, trace, redrives, redriven"
)
_LETTER_COLUMNS = 12


def save_settlements(db: apsw.Connection, settlements: Iterable[Settlement], types: TypeNumbers) -> None:
    """Write what subscriptions have settled. Written again it changes nothing: a commit's answer may have been lost."""
    for settlement in settlements:
        if settlement.durable and _is_live(db, settlement.subscription_id):
            _save_progress(db, settlement)
        if settlement.dead:
            _save_dead(db, settlement.dead, types)


def _is_live(db: apsw.Connection, subscription_id: str) -> bool:
    sql = "SELECT 1 FROM subscription WHERE id = ? AND to_seq IS NULL"
    return db.execute(sql, (subscription_id,)).get is not None


def _save_progress(db: apsw.Connection, settlement: Settlement) -> None:
    name = settlement.subscription_id
    db.executemany(
        "INSERT INTO cursor VALUES(?, ?, ?, ?) ON CONFLICT DO UPDATE SET high = excluded.high, open = excluded.open",
        [(name, int(c.priority), c.high, _distances(c) if c.open_seqs else None) for c in settlement.cursors],
    )
    if settlement.naks:
        db.executemany(
            "INSERT INTO attempt VALUES(?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "attempts = excluded.attempts, due = excluded.due, error = excluded.error, first = excluded.first",
            [(name, nak.seq, nak.attempts, nak.due_ns, _storable(nak.error), nak.first_ns) for nak in settlement.naks],
        )
    if settlement.cleared:  # after the naks: a retry may have succeeded before its failure was stored
        db.executemany(
            "DELETE FROM attempt WHERE subscription = ? AND seq = ?", [(name, seq) for seq in settlement.cleared]
        )
    if settlement.unattended_ns:
        db.execute("UPDATE subscription SET unattended = ? WHERE id = ?", (settlement.unattended_ns, name))


def _save_dead(db: apsw.Connection, letters: list[DeadLetter], types: TypeNumbers) -> None:
    save_types(db, types)
    rows = encode_events([letter.event for letter in letters], types)
    db.executemany(
        f"INSERT INTO dead_letter({_LETTER}, {COLUMNS}) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {PLACES}) "
        "ON CONFLICT(subscription_id, seq) DO UPDATE SET "
        "reason = excluded.reason, attempts = excluded.attempts, first = excluded.first, last = excluded.last, "
        "error_type = excluded.error_type, error = excluded.error, trace = excluded.trace, "
        "redrives = max(redrives, excluded.redrives), "
        # What is written again, because its answer was lost, is not another failure after a redrive.
        "redriven = iif(excluded.last = last AND excluded.last < redriven, redriven, 0)",
        [
            (*letter[1:8], *map(_storable, letter[8:11]), letter.redrives, letter.redriven_ns, *row)
            for letter, row in zip(letters, rows, strict=True)
        ],
    )


def save_types(db: apsw.Connection, types: TypeNumbers) -> None:
    """Write the types that no commit has stored yet."""
    if types.unsaved:
        db.executemany("INSERT OR IGNORE INTO type VALUES(?, ?)", types.unsaved)


def attach(db: apsw.Connection, spec: DurableSpec, next_seq: int, head: int) -> tuple[str, int, int]:
    """Make or find the live subscription of this name: its id, from_seq, and how many events at most it is owed no
    more. A new one begins at next_seq unless it asks otherwise; head is the greatest seq given. Raises
    SubscriptionError."""
    found: list[tuple[Any, ...]] = db.execute(
        "SELECT id, from_seq, pattern, filters, subscriber FROM subscription WHERE name = ? AND to_seq IS NULL",
        (spec.name,),
    ).fetchall()
    if not found:
        if spec.start == "earliest":
            first = db.execute("SELECT min(seq) FROM event").get
            from_seq = next_seq if first is None else min(first, next_seq)
        else:
            from_seq = next_seq if spec.start == "new" else spec.start
        db.execute(
            "INSERT INTO subscription VALUES(?, ?, ?, ?, ?, ?, NULL, NULL)",
            (spec.id, spec.name, spec.subscriber_id, spec.pattern, spec.filters, from_seq),
        )
        _note_head(db, head)
        return spec.id, from_seq, 0
    (subscription_id, from_seq, pattern, filters, subscriber) = found[0]
    db.execute("UPDATE subscription SET unattended = NULL WHERE id = ?", (subscription_id,))
    given_up = 0
    if spec.differs(pattern, filters):
        sql = "SELECT min(high) FROM cursor WHERE subscription = ?"
        settled = db.execute(sql, (subscription_id,)).get
        given_up = head - max(from_seq - 1, 0 if settled is None else settled)
        from_seq = next_seq
        _forget_progress(db, subscription_id)
        _note_head(db, head)
    elif subscriber == spec.subscriber_id:
        return subscription_id, from_seq, 0
    db.execute(
        "UPDATE subscription SET pattern = ?, filters = ?, subscriber = ?, from_seq = ? WHERE id = ?",
        (spec.pattern, spec.filters, spec.subscriber_id, from_seq, subscription_id),
    )
    return subscription_id, from_seq, given_up


def detach(db: apsw.Connection, subscription_id: str, head: int) -> None:
    """End a subscription: it is owed nothing after head, and how far it came is forgotten."""
    db.execute("UPDATE subscription SET to_seq = ? WHERE id = ? AND to_seq IS NULL", (head + 1, subscription_id))
    _forget_progress(db, subscription_id)
    _note_head(db, head)


def note_unattended(db: apsw.Connection, now_ns: int) -> None:
    """Nobody has attached to any subscription yet: those that had somebody have nobody from now on."""
    db.execute("UPDATE subscription SET unattended = ? WHERE unattended IS NULL", (now_ns,))


def unattended(db: apsw.Connection, before_ns: int) -> list[tuple[str, int]]:
    """The names of subscriptions that had nobody before that time, and since when, in wall ns."""
    sql = "SELECT name, unattended FROM subscription WHERE unattended <= ? AND to_seq IS NULL ORDER BY unattended, name"
    found: list[tuple[Any, ...]] = db.execute(sql, (before_ns,)).fetchall()
    return [(name, since_ns) for name, since_ns in found]


def progress(db: apsw.Connection, subscription_id: str) -> tuple[list[Cursor], list[AttemptRow]]:
    """How far a subscription came."""
    cursors = db.execute("SELECT priority, high, open FROM cursor WHERE subscription = ?", (subscription_id,))
    attempts = db.execute(
        "SELECT seq, attempts, due, error, first FROM attempt WHERE subscription = ? ORDER BY seq", (subscription_id,)
    )
    return (
        [Cursor(priority, high, _seqs(high, distances)) for priority, high, distances in cursors],
        [AttemptRow(*row) for row in attempts],
    )


def head_seq(db: apsw.Connection) -> tuple[int, int]:
    """The greatest stored seq, and the greatest that was ever given as far as it matters."""
    stored = db.execute("SELECT coalesce(max(seq), 0) FROM event").get
    given = db.execute("SELECT max(seq, (SELECT coalesce(max(high), 0) FROM cursor)) FROM head").get
    return stored, max(stored, given)


def dead_letters(
    db: apsw.Connection, subscription: str | None, after: int, limit: int, types: TypeNumbers
) -> list[DeadLetter]:
    """Dead letters in the order of their arrival."""
    where, values = (
        ("", ()) if subscription is None else ("WHERE ? IN (subscription_id, subscription)", (subscription,))
    )
    rows: list[tuple[Any, ...]] = db.execute(
        f"SELECT {_LETTER}, {COLUMNS} FROM dead_letter {where} ORDER BY number LIMIT ? OFFSET ?",
        (*values, limit, after),
    ).fetchall()
    return [DeadLetter(decode_event(row[_LETTER_COLUMNS:], types), *row[:_LETTER_COLUMNS]) for row in rows]


def redrive(db: apsw.Connection, wanted: Sequence[Redrive]) -> list[Redrive]:
    """Mark these dead letters as given back, and owe the events of durable ones again; returns those that were."""
    given = [one for one in wanted if not one.durable or _is_live(db, one.subscription_id)]
    sql = (
        "UPDATE dead_letter SET redrives = redrives + 1, redriven = ? "
        "WHERE subscription_id = ? AND seq = ? AND redrives = ? AND redriven = 0 RETURNING 1"
    )
    given = [
        one for one in given if db.execute(sql, (one.now_ns, one.subscription_id, one.seq, one.redrives)).fetchall()
    ]
    db.executemany(
        "INSERT OR REPLACE INTO attempt VALUES(?, ?, 0, ?, '', 0)",
        [(one.subscription_id, one.seq, one.due_ns) for one in given if one.durable],
    )
    return given


def count_dead_letters(db: apsw.Connection) -> int:
    """How many dead letters wait."""
    return int(db.execute("SELECT count(*) FROM dead_letter WHERE redriven = 0").get)


def _note_head(db: apsw.Connection, head: int) -> None:
    db.execute("UPDATE head SET seq = max(seq, ?)", (head,))


def _forget_progress(db: apsw.Connection, subscription_id: str) -> None:
    for table in ("cursor", "attempt"):
        db.execute(f"DELETE FROM {table} WHERE subscription = ?", (subscription_id,))


def _distances(cursor: Cursor) -> str:
    return msgspec.json.encode([cursor.high - seq for seq in cursor.open_seqs]).decode()


def _seqs(high: int, distances: str | None) -> tuple[int, ...]:
    return () if distances is None else tuple(high - d for d in msgspec.json.decode(distances, type=list[int]))


def _storable(text: str) -> str:
    """Errors may say what UTF-8 cannot; better altered than a settlement that can never be stored."""
    return text.encode(errors="backslashreplace").decode()
