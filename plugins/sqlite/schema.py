"""The tables, their version, and the steps from older versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import apsw

APPLICATION_ID = 0x53514C4C
VERSION = 5
IndexName = Literal["type", "correlation", "id", "key"]

# type is a number of the table of types; correlation is NULL where it is the id itself, metadata where it is empty.
# unattended is since when nobody handles a subscription, as far as is known; NULL while somebody does.
# redriven is when a dead letter was given back; 0 while it waits.
# extra is what few events have, as JSON: own_id, due_ns, expires_ns; NULL where it is empty.
# id and correlation are the 16 bytes of a UUID, or other text as it is. Times are wall nanoseconds since 1970.
_EVENT = """
    seq INTEGER {0}, id NOT NULL, type INTEGER NOT NULL, source TEXT NOT NULL, version TEXT NOT NULL,
    priority INTEGER NOT NULL, time INTEGER NOT NULL, key TEXT, correlation, metadata TEXT, payload BLOB NOT NULL,
    extra TEXT"""

TABLES = f"""
CREATE TABLE event({_EVENT.format("PRIMARY KEY")});
CREATE INDEX event_priority ON event(priority) WHERE priority <> 2;
CREATE TABLE type(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
-- the earliest and the latest time in each run of events, so that a search by time can pass over the others
CREATE TABLE span(number INTEGER PRIMARY KEY, least INTEGER NOT NULL, greatest INTEGER NOT NULL);
CREATE TABLE subscription(
    id TEXT PRIMARY KEY, name TEXT NOT NULL, subscriber TEXT NOT NULL, pattern TEXT NOT NULL, filters TEXT NOT NULL,
    from_seq INTEGER NOT NULL, to_seq INTEGER, unattended INTEGER) WITHOUT ROWID;
CREATE UNIQUE INDEX subscription_name ON subscription(name) WHERE to_seq IS NULL;
-- settled up to high, save for the open ones, which are a JSON list of their distances to high
CREATE TABLE cursor(
    subscription TEXT NOT NULL, priority INTEGER NOT NULL, high INTEGER NOT NULL, open TEXT,
    PRIMARY KEY(subscription, priority)) WITHOUT ROWID;
CREATE TABLE attempt(
    subscription TEXT NOT NULL, seq INTEGER NOT NULL, attempts INTEGER NOT NULL, due INTEGER NOT NULL,
    error TEXT NOT NULL, first INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(subscription, seq)) WITHOUT ROWID;
CREATE TABLE dead_letter(
    number INTEGER PRIMARY KEY, subscription_id TEXT NOT NULL, subscription TEXT NOT NULL, pattern TEXT NOT NULL,
    reason TEXT NOT NULL, attempts INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    error_type TEXT NOT NULL, error TEXT NOT NULL, trace TEXT NOT NULL,{_EVENT.format("NOT NULL")},
    redrives INTEGER NOT NULL DEFAULT 0, redriven INTEGER NOT NULL DEFAULT 0, UNIQUE(subscription_id, seq));
-- the greatest seq ever given, noted when a subscription counts from it: no event may get one that it passed over
CREATE TABLE head(one INTEGER PRIMARY KEY CHECK(one = 1), seq INTEGER NOT NULL);
INSERT INTO head VALUES(1, 0);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""


def _redrives_and_unattended(db: apsw.Connection) -> None:
    db.execute("ALTER TABLE dead_letter ADD COLUMN redrives INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE subscription ADD COLUMN unattended INTEGER")


def _extra(db: apsw.Connection) -> None:
    for table in ("event", "dead_letter"):
        db.execute(f"ALTER TABLE {table} ADD COLUMN extra TEXT")


def _first_attempt(db: apsw.Connection) -> None:
    db.execute("ALTER TABLE attempt ADD COLUMN first INTEGER NOT NULL DEFAULT 0")


def _redriven(db: apsw.Connection) -> None:
    db.execute("ALTER TABLE dead_letter ADD COLUMN redriven INTEGER NOT NULL DEFAULT 0")


MIGRATIONS: Sequence[Callable[[apsw.Connection], None]] = (_redrives_and_unattended, _extra, _first_attempt, _redriven)
"""The n-th step makes version n + 2 of version n + 1."""

INDEXES: dict[IndexName, str] = {
    "type": "CREATE INDEX IF NOT EXISTS event_type ON event(type)",
    "correlation": "CREATE INDEX IF NOT EXISTS event_correlation ON event(ifnull(correlation, id))",
    "id": "CREATE INDEX IF NOT EXISTS event_id ON event(id)",
    "key": "CREATE INDEX IF NOT EXISTS event_key ON event(key) WHERE key IS NOT NULL",
}


def create(db: apsw.Connection) -> None:
    """Make the tables in an empty database."""
    with db:
        db.execute(TABLES)


def migrate(db: apsw.Connection, steps: Sequence[Callable[[apsw.Connection], None]] = MIGRATIONS) -> None:
    """Bring an older database to the version of today, each step in a transaction of its own."""
    version = user_version(db)
    for number, step in enumerate(steps[version - 1 :], start=version + 1):
        with db:
            step(db)
            db.execute(f"PRAGMA user_version = {number}")


def user_version(db: apsw.Connection) -> int:
    """The version that the database says it has."""
    return int(db.execute("PRAGMA user_version").get)


def set_indexes(db: apsw.Connection, wanted: frozenset[IndexName]) -> None:
    """Make the optional indexes that are wanted, and drop the others: each slows every write."""
    with db:
        for name in get_args(IndexName):
            db.execute(INDEXES[name] if name in wanted else f"DROP INDEX IF EXISTS event_{name}")
