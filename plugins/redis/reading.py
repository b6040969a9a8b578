"""Reading the streams: queries page by page, events by their seqs, dead letters in the order of their arrival."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from squall.core.errors import StoreError
from squall.core.event import Event, Priority
from squall.core.quarantine import UNDECODABLE, Undecodable, stand_in
from squall.core.query import bounds, search
from squall.core.recent import RecentEvents
from squall.core.store import DeadLetter, Page, Query
from squall.plugins.redis import scripts
from squall.plugins.redis.codec import letter_name, unpack_event, unpack_letter
from squall.plugins.redis.keys import Keys
from squall.plugins.redis.server import Interrupted, Link, Links, Rejected, Unreachable

AT_ONCE = 500
"""Events of one stream that are read with one command."""


class Announced(Protocol):
    """What the router was told of: up to which seq, and the latest events of that."""

    head: int
    recent: RecentEvents


class Reader:
    """What a store holds, read over connections of its own: a large answer keeps no append waiting."""

    def __init__(self, links: Links, keys: Keys, announced: Announced) -> None:
        self._links, self._keys, self._announced = links, keys, announced
        self.hits = self.misses = 0

    async def read(self, query: Query) -> Page:
        """A page of what was announced up to now: of the latest events from memory. Raises StoreError."""
        low, high = bounds(query, 1, self._announced.head)
        if low > high:
            return Page([], low if query.newest_first else high)
        recent = self._announced.recent
        least = low if query.seqs is None else max(low, min(query.seqs, default=high + 1))
        if least >= recent.first:
            self.hits += 1
            return recent.page(query, low, high)
        if query.newest_first and high >= recent.first:
            page = recent.page(query, recent.first, high)
            if page.events:
                self.hits += 1
                return page
            high = recent.first - 1
        self.misses += 1
        return await self._from_server(query, low, high)

    async def _from_server(self, query: Query, low: int, high: int) -> Page:
        if query.seqs is not None:
            return search(await self._picked(query, low, high), query, low, high)
        asked = (query.pattern, query.source, query.correlation_id, query.since_ns, query.until_ns)
        filtered = query.own_id or any(one is not None for one in asked)
        count = min(AT_ONCE, max(100, 2 * query.limit) if filtered else query.limit)
        levels = list(Priority) if query.priority is None else [query.priority]
        answers = await self._calls([
            ("XREVRANGE", self._keys.streams[level], high, low, "COUNT", count) if query.newest_first
            else ("XRANGE", self._keys.streams[level], low, high, "COUNT", count)
            for level in levels
        ])  # fmt: skip
        ends = [seq_of(entries[-1]) for entries in answers if len(entries) >= count]
        if ends and query.newest_first:
            low = max(ends)  # below it, a stream that was read to here only may have more
        elif ends:
            high = min(ends)
        entries_ = [(level, one) for level, entries in zip(levels, answers, strict=True) for one in entries]
        found = [one for one in entries_ if low <= seq_of(one[1]) <= high]
        found.sort(key=lambda one: seq_of(one[1]), reverse=query.newest_first)
        return search(map(self._event, found), query, low, high)

    async def dead_letters(self, subscription: str | None, after: int, limit: int) -> list[DeadLetter]:
        """Dead letters from the after-th on. Raises StoreError."""
        found: list[DeadLetter] = []
        start = "-"
        while len(found) < after + limit:
            entries = await self._call("XRANGE", self._keys.dead, start, "+", "COUNT", AT_ONCE)
            letters = [unpack_letter(fields[1]) for _, fields in entries]
            asked = [one for one in letters if subscription in (None, one.subscription_id, one.subscription)]
            found += await self._as_they_are(asked)
            if len(entries) < AT_ONCE:
                break
            start = "(" + entries[-1][0].decode()
        return found[after : after + limit]

    async def _as_they_are(self, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """The letters as they came, and as they are now where they were given back since."""
        if not letters:
            return []
        names = [letter_name(one.subscription_id, one.event.seq) for one in letters]
        now, since = await self._calls([
            ("HMGET", self._keys.redriven, *names),
            ("HMGET", self._keys.given_back, *names),
        ])  # fmt: skip
        return [
            letter if packed is None else _redriven(packed, given_back)
            for letter, packed, given_back in zip(letters, now, since, strict=True)
        ]

    async def counts(self) -> tuple[int, int, int]:
        """How many events there are, dead letters that wait, and the greatest seq given. Raises StoreError."""
        commands = [("XLEN", name) for name in (*self._keys.streams, self._keys.dead)]
        commands += [("HLEN", self._keys.given_back), ("GET", self._keys.head)]
        *lengths, dead, given_back, head = await self._calls(commands)
        return sum(lengths), dead - given_back, int(head or 0)

    async def _picked(self, query: Query, low: int, high: int) -> list[Event]:
        seqs = sorted({seq for seq in query.seqs or () if low <= seq <= high})
        found: list[Event] = []
        for begin in range(0, len(seqs), AT_ONCE):
            try:
                async with self._links.use() as link:
                    answer = await link.run(scripts.PICK, self._keys.streams, seqs[begin : begin + AT_ONCE])
            except (Unreachable, Interrupted, Rejected) as error:
                raise _failed(error) from error
            found += map(self._event, answer)
        if missing := set(seqs) - {event.seq for event in found}:
            found = sorted([*found, *await self._kept_for_redrive(missing)], key=lambda event: event.seq)
        return found[::-1] if query.newest_first else found

    async def _kept_for_redrive(self, seqs: set[int]) -> list[Event]:
        """Of these events, which were trimmed or never were, those that were redriven: their letters have them."""
        names = {int(name.rpartition(b":")[2]): name for name in await self._call("HKEYS", self._keys.redriven)}
        asked = [name for seq, name in names.items() if seq in seqs]
        letters = await self._call("HMGET", self._keys.redriven, *asked) if asked else []
        kept = [_redriven(packed, None) for packed in letters]
        return [one.event for one in kept if one.reason != UNDECODABLE]  # whose letter has not the event itself

    async def _call(self, *command: str | int) -> Any:
        return (await self._calls([command]))[0]

    async def _calls(self, commands: Sequence[Sequence[str | int]]) -> list[Any]:
        try:
            async with self._links.use() as link:
                return await link.calls(commands)
        except (Unreachable, Interrupted, Rejected) as error:
            raise _failed(error) from error

    def _event(self, found: tuple[int, Any]) -> Event:
        level, entry = found
        try:
            return unpack_event(entry[1][1], seq_of(entry), level)
        except (ValueError, LookupError) as error:
            stream = self._keys.streams[level]
            said = f"the stream {stream} holds what this store did not write: {error}"
            raise Undecodable(said, stand_in(seq_of(entry), level, _raw(entry))) from error


async def following(link: Link, keys: Keys, after: int, *, count: int, block_ms: int | None = None) -> list[Event]:
    """Events that follow the seq `after`, in order and without a gap; with block_ms, waits so long for the first.

    One command for all streams: read one after the other, a group between them would be seen in part. What is no event
    stands there without a type. Raises as Link.calls, and ValueError on one that is next and beyond the numbering.
    """
    waiting = () if block_ms is None else ("BLOCK", block_ms)
    after_each = [f"{after}-0"] * len(keys.streams)
    answer = await link.call("XREAD", "COUNT", count, *waiting, "STREAMS", *keys.streams, *after_each) or {}
    ends = [seq_of(entries[-1]) for entries in answer.values() if len(entries) >= count]
    found = [
        _or_stand_in(one, keys.streams.index(name.decode()))
        for name, entries in answer.items()
        for one in entries
        if (seq := seq_of(one)) <= min(ends, default=seq)
    ]
    events = sorted(found, key=lambda event: event.seq)
    before = [after, *(event.seq for event in events)]
    strays = [at for at, event in enumerate(events) if not event.type and event.seq > before[at] + 1]
    if strays[:1] == [0]:
        raise ValueError(f"there is an entry {events[0].seq}-0 which is no event; the last event is {after}")
    return events[: strays[0]] if strays else events


def _redriven(packed: bytes, given_back: bytes | None) -> DeadLetter:
    """A letter as the redrive script keeps it."""
    redrives, _, letter = packed.partition(b":")
    since_ns = 0 if given_back is None else int(given_back.partition(b":")[0])
    return unpack_letter(letter)._replace(redrives=int(redrives), redriven_ns=since_ns)


def _or_stand_in(entry: Any, level: int) -> Event:
    try:
        return unpack_event(entry[1][1], seq_of(entry), level)
    except (ValueError, LookupError):
        return stand_in(seq_of(entry), level, _raw(entry), event_type="")


def _raw(entry: Any) -> bytes:
    """The value that an entry has, or all that is there instead."""
    name, *values = entry[1]
    return values[0] if name == b"e" and len(values) == 1 else b" ".join(entry[1])


def seq_of(entry: Any) -> int:
    """The seq of a stream's entry: the first half of its id."""
    return int(entry[0].partition(b"-")[0])


def _failed(error: Exception) -> StoreError:
    return StoreError(f"{error}; nothing is lost, try again")
