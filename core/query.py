"""Queries: paged through to their end, and answered from events that a store holds in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Protocol

from squall.core.argument_checks import check_kind
from squall.core.errors import ConfigError, StoreError
from squall.core.event import Event
from squall.core.filters import Predicate, combine
from squall.core.patterns import compile_pattern
from squall.core.store import EventStore, Page, Query


def history(store: EventStore, query: Query | None, head: int, begin: Callable[[], None]) -> AsyncIterator[Event]:
    """All events up to head that answer the query, or all. `begin` is called when the reading begins, and may raise."""
    query = Query() if query is None else query
    check_kind(ConfigError, "replay", Query, query)
    end = min(query.before_seq or head + 1, head + 1)
    return every_page(store, replace(query, before_seq=end), begin)


class Readable(Protocol):
    """Of a store, what reads from it."""

    async def read(self, query: Query) -> Page:
        """As EventStore.read."""


async def every_page(store: Readable, query: Query, begin: Callable[[], None] = lambda: None) -> AsyncIterator[Event]:
    """All events that answer the query, read query.limit at a time. query.before_seq must be given: where a search
    that goes upward ends. `begin` is called when the reading begins. Raises StoreError, and what `begin` raises."""
    begin()
    end = query.before_seq
    if end is None:
        raise ValueError("every_page: expected a query with before_seq")
    while True:
        page = await store.read(query)
        for event in page.events:
            yield event
        if query.newest_first:
            if page.searched_to >= end or page.searched_to <= query.after_seq + 1:
                return
            end = page.searched_to
            query = replace(query, before_seq=end)
        elif page.searched_to >= end - 1:
            return
        elif page.searched_to <= query.after_seq:
            raise StoreError(f"the store searched no further than seq {page.searched_to}, asked up to {end - 1}")
        else:
            query = replace(query, after_seq=page.searched_to)


def predicate(query: Query) -> Predicate:
    """True for events that meet all of the query's conditions save those on seq.

    Raises SubscriptionError when its pattern is not one.
    """
    tests: list[Predicate] = []
    if query.pattern is not None and query.pattern != ">":
        matches = compile_pattern(query.pattern)
        tests.append(lambda event: matches(event.type))
    elif query.pattern == ">":
        tests.append(lambda event: not event.type.startswith("$"))
    if (source := query.source) is not None:
        tests.append(lambda event: event.source == source)
    if (correlation_id := query.correlation_id) is not None:
        tests.append(lambda event: event.correlation_id == correlation_id)
    if (priority := query.priority) is not None:
        tests.append(lambda event: event.priority == priority)
    if (since_ns := query.since_ns) is not None:
        tests.append(lambda event: event.time_ns >= since_ns)
    if (until_ns := query.until_ns) is not None:
        tests.append(lambda event: event.time_ns < until_ns)
    if query.own_id:
        tests.append(lambda event: event.own_id)
    return combine(tests)


def bounds(query: Query, first: int, head: int) -> tuple[int, int]:
    """The least and the greatest seq, both inclusive, that can answer the query in a store that holds first to head.
    When nothing can, the least is the greater one."""
    low = max(query.after_seq + 1, first)
    high = head if query.before_seq is None else min(query.before_seq - 1, head)
    return low, max(high, low - 1)


def search(candidates: Iterable[Event], query: Query, low: int, high: int) -> Page:
    """The page that answers the query, when candidates are all events from low to high (query.seqs already applied),
    in the order that the query asks for."""
    return page_of(list(islice(filter(predicate(query), candidates), query.limit)), query, low, high)


def page_of(events: Sequence[Event], query: Query, low: int, high: int) -> Page:
    """The page of events that answer the query, at most query.limit of them, found between low and high."""
    if events and len(events) == query.limit:
        return Page(events, events[-1].seq)
    return Page(events, low if query.newest_first else high)
