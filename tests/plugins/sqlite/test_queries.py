"""Queries over generated events agree with their plain meaning, whatever ways to the rows there are."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.plugins.event_promises import matches
from tests.plugins.sqlite_stores import sqlite_store
from tests.plugins.store_bench import NOW_NS, Bench, StoreKind, assert_same, make_event

from squall.core.event import Event, Priority
from squall.core.store import EventStore, Query
from squall.plugins.memory import MemoryOptions, MemoryStore
from squall.plugins.sqlite import commits, queries
from squall.plugins.sqlite.schema import IndexName

TYPES = ["order", "order.paid", "order.paid.late", "order.line.added", "user.created", "$squall.up"]
PATTERNS = [">", "*", "order.>", "order.*", "*.paid", "order.paid", "*.*.late", "$squall.>", "nothing.>"]
SOURCES = ["shop", "web", "läden"]
TIMES = st.integers(min_value=-5, max_value=5).map(lambda hours: NOW_NS + hours * 3600 * 10**9)

EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(TYPES),
            "source": st.sampled_from(SOURCES),
            "priority": st.sampled_from([*Priority, Priority.NORMAL, Priority.NORMAL]),
            "timestamp": TIMES,
            "key": st.sampled_from([None, "a", "b"]),
        }
    ),
    min_size=1,
    max_size=60,
)
QUERIES = st.builds(
    Query,
    pattern=st.none() | st.sampled_from(PATTERNS),
    source=st.none() | st.sampled_from([*SOURCES, "nobody"]),
    priority=st.none() | st.sampled_from(Priority),
    since_ns=st.none() | TIMES,
    until_ns=st.none() | TIMES,
    after_seq=st.integers(0, 70),
    before_seq=st.none() | st.integers(1, 70),
    seqs=st.none() | st.lists(st.integers(1, 70), max_size=8).map(tuple),
    newest_first=st.booleans(),
    limit=st.sampled_from([1, 3, 500]),
)


@pytest.fixture(scope="module", autouse=True)
def small_steps() -> object:
    """Reading looks through few events at once, and notes the times of few, so that few events have many of both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queries, "MAX_SEARCHED", 5)
        patch.setattr(queries, "SPAN_BITS", 2)
        patch.setattr(commits, "SPAN_BITS", 2)
        yield


async def answers(kind: StoreKind, events: Sequence[Event], asked: Sequence[Query]) -> list[list[Event]]:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(kind, Path(folder))
        await bench.open()
        try:
            for event in events:
                await bench.append(event)
            return [await bench.all(query) for query in asked]
        finally:
            await bench.store.close()


def stores(indexes: tuple[IndexName, ...], recent_events: int) -> list[StoreKind]:
    def sqlite(folder: Path) -> EventStore:
        return sqlite_store(folder / "squall.db", "process", indexes, recent_events=recent_events)

    return [StoreKind("sqlite", sqlite), StoreKind("memory", lambda folder: MemoryStore(MemoryOptions()))]


@settings(max_examples=60)
@given(
    fields=EVENTS,
    asked=st.lists(QUERIES, min_size=1, max_size=8),
    related=st.integers(1, 12),
    indexes=st.sampled_from([(), ("type",), ("correlation",), ("type", "correlation", "id", "key")]),
    recent_events=st.sampled_from([0, 7]),
)
def test_every_store_answers_as_a_plain_filter_does(
    fields: list[dict[str, object]],
    asked: list[Query],
    related: int,
    indexes: tuple[IndexName, ...],
    recent_events: int,
) -> None:
    """By type pattern, source, correlation, priority, time and seq, together, in both directions, page by page."""
    # every so many events share the correlation id of the first of them
    origin = [make_event(index // related * related).id for index in range(len(fields))]
    asked = [*asked, Query(correlation_id=origin[-1]), Query(correlation_id=origin[0], newest_first=True, limit=2)]
    for kind in stores(indexes, recent_events):
        events = [make_event(index, correlation_id=origin[index], **one) for index, one in enumerate(fields)]
        for query, found in zip(asked, asyncio.run(answers(kind, events, asked)), strict=True):
            wanted = [e for e in events if matches(e, query) and (query.seqs is None or e.seq in query.seqs)]
            assert_same(found, wanted[::-1] if query.newest_first else wanted)
