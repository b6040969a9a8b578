"""The store's side on the event loop: a group gathers while the one before it commits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from logging import Logger
from typing import Any

import apsw

from squall.core.clock import Clock, Timer
from squall.core.errors import Outcome, StoreError
from squall.core.event import Event
from squall.core.recent import MAX_EVENTS_HELD
from squall.core.store import (
    Attached,
    Capabilities,
    DeadLetter,
    DurableSpec,
    Page,
    Progress,
    Query,
    Redrive,
    StoreCounts,
)
from squall.plugins.sqlite import records
from squall.plugins.sqlite.checkpoints import Checkpoints
from squall.plugins.sqlite.commits import Committer, Fate, Group, Work
from squall.plugins.sqlite.file import DatabaseFile
from squall.plugins.sqlite.reader import EventReader
from squall.plugins.sqlite.threads import Link, Worker

MAX_EVENTS = 500
MAX_BYTES_ON_LOOP = 1_000_000
SETTLE_WITHIN_S = 0.02
DEDUPE_WINDOW_S = 120.0
INACTIVE_AFTER_S = 7 * 86400.0
REOPEN_AFTER_S, REOPEN_AT_MOST_AFTER_S = 0.05, 5.0


class SqliteStore:
    """The protocol of core/store.py over one SQLite file.

    A group is inserted on the loop and committed in the writer's thread. Its fate comes back on the loop: first its
    events are announced, then their publishers and the settlements are told. When the file fails and cannot be
    reopened, appends are refused until it can.
    """

    def __init__(
        self,
        file: DatabaseFile,
        clock: Clock,
        logger: Logger,
        recent_events: int = MAX_EVENTS_HELD,
        inactive_after_s: float = INACTIVE_AFTER_S,
        dedupe_window_s: float = DEDUPE_WINDOW_S,
    ) -> None:
        self.capabilities = Capabilities(file.durability, dedupe_window_s)
        self._path, self._clock, self._logger = file.path, clock, logger
        self._inactive_after_ns = round(inactive_after_s * 1e9)
        self._reader = EventReader(file, lambda: self._committer.types, logger, recent_events)
        checkpointing = Link(partial(file.connect, "checkpointer"), logger)
        self._committer = Committer(file, (self._reader.link, checkpointing), logger)
        self._checkpoints = Checkpoints(checkpointing, logger)
        self._refusal: str | None = "it is not open"
        self._opened = False
        self._closing: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._seq = 0
        self._gathering = Group()
        self._groups = deque((self._gathering,))
        self._room = MAX_EVENTS
        self._busy = self._begin_soon = self._settle_now = False
        self._dirty: dict[Progress, None] = {}
        self._settle_timer: Timer | None = None
        self._reopen_timer: Timer | None = None
        self._reopen_after_s = REOPEN_AFTER_S

    @property
    def next_seq(self) -> int:
        return self._seq + 1

    async def open(self, on_stored: Callable[[Sequence[Event]], None]) -> int:
        self._loop, self._on_stored = asyncio.get_running_loop(), on_stored
        self._writer = Worker("squall-sqlite-writer")
        try:
            opening = partial(self._committer.open, self._clock.time_ns(), self._inactive_after_ns)
            head, self._seq, unattended = await self._writer.run(opening)
        except BaseException:
            await self._writer.stop()
            raise
        self._checkpointer = Worker("squall-sqlite-checkpointer")
        self._reader.start(head)
        self._refusal, self._opened = None, True
        for name, since_ns in unattended:
            since = datetime.fromtimestamp(since_ns / 1e9, UTC)
            self._logger.warning(
                "%s: nobody has handled subscription %s since %s (UTC) at the latest, and all that it is owed is kept: "
                "subscribe with this name to go on, and unsubscribe then if it is needed no more",
                self._path,
                name,
                since.strftime("%Y-%m-%d %H:%M"),
            )
        return head

    async def close(self) -> None:
        if self._closing is None:
            if not self._opened:
                return
            self._closing = self._loop.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._refusal, self._settle_now = "it is closed", True
        if self._reopen_timer is not None:
            self._reopen_timer.cancel()
        self._drained = self._loop.create_future()
        if not self._busy:
            self._go_on()
        await self._drained
        self._busy = True  # from now on nothing begins: a checkpoint that ends meanwhile would open the file anew
        error = StoreError(f"the store {self._path} is closed, and was down: not stored")
        for progress in self._dirty:
            progress.committed(progress.take(), error)
        self._dirty.clear()
        await self._reader.stop()
        await self._checkpointer.stop()
        await self._writer.run(self._committer.close)
        await self._writer.stop()

    def append(self, events: Sequence[Event]) -> Awaitable[None] | None:
        if self._refusal is not None:
            raise self._error("nothing was stored: " + self._refusal, "fail")
        number = len(events)
        if number > self._room:
            self._next_group()
        self._room -= number
        seq = self._seq
        for event in events:
            seq += 1
            event.seq = seq
        self._seq = seq
        group = self._gathering
        group.events += events
        future: asyncio.Future[None] = asyncio.Future(loop=self._loop)
        group.appends.append((future, events))
        if not self._begin_soon and not self._busy:
            self._begin_soon = True
            self._loop.call_soon(self._begin)
        return future

    def settle(self, progress: Progress) -> None:
        self._dirty[progress] = None
        if self._settle_timer is None:
            self._settle_timer = self._clock.call_later(SETTLE_WITHIN_S, self._settle_alone)

    async def attach(self, spec: DurableSpec) -> Attached:
        next_seq = self._seq + 1
        work = partial(records.attach, spec=spec, next_seq=next_seq, head=self._seq)
        subscription_id, from_seq, given_up = await self._work(work)
        cursors, attempts = await self._reader.progress(subscription_id)
        return Attached(subscription_id, from_seq, cursors, attempts, given_up)

    async def detach(self, subscription_id: str) -> None:
        await self._work(lambda db: records.detach(db, subscription_id, self._seq))

    async def read(self, query: Query) -> Page:
        return await self._reader.read(query)

    async def dead_letters(self, subscription: str | None = None, after: int = 0, limit: int = 500) -> list[DeadLetter]:
        return await self._reader.dead_letters(subscription, after, limit)

    async def redrive(self, wanted: Sequence[Redrive]) -> list[Redrive]:
        given: list[Redrive] = await self._work(lambda db: records.redrive(db, wanted))
        return given

    async def counts(self) -> StoreCounts:
        return await self._reader.counts(self._clock.time_ns() - self._inactive_after_ns)

    async def _work(self, work: Work) -> Any:
        """What work returns, done in the next group's transaction, when that is committed."""
        if self._refusal is not None:
            raise self._error("nothing was changed: " + self._refusal, "fail")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._gathering.works.append((future, work))
        if not self._busy:
            self._go_on()
        return await future

    def _next_group(self) -> None:
        if not self._groups or self._gathering.events:
            self._gathering = Group()
            self._groups.append(self._gathering)
        self._room = MAX_EVENTS

    def _settle_alone(self) -> None:
        self._settle_timer = None
        self._settle_now = True
        if not self._busy:
            self._go_on()

    def _go_on(self) -> None:
        """With nothing being committed: checkpoint, begin the next group, or say that all is done."""
        if not self._committer.is_up:
            self._finish_drain()
        elif self._checkpoints.is_due:
            self._busy = True
            self._writer.submit(partial(self._checkpoints.finish, self._committer.log_pages), self._checkpointed)
        elif self._groups[0] or (self._dirty and self._settle_now):
            if not self._begin_soon:
                # Not at once: publishers that were just told may have more, and it should be in the same group.
                self._begin_soon = True
                self._loop.call_soon(self._begin)
        else:
            self._finish_drain()

    def _finish_drain(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _checkpointed(self, _: object, error: Exception | None) -> None:
        self._busy = False
        self._go_on()

    def _begin(self) -> None:
        self._begin_soon = False
        if self._busy or not self._committer.is_up:
            return
        group = self._groups.popleft()
        if not self._groups:
            self._next_group()
        dirty, self._dirty, self._settle_now = self._dirty, {}, self._drained is not None
        if self._settle_timer is not None:
            self._settle_timer.cancel()
            self._settle_timer = None
        group.settlements = [(progress, progress.take()) for progress in dirty]
        self._busy = True
        large = group.size_bytes > MAX_BYTES_ON_LOOP
        if not large:
            try:
                self._committer.insert(group)
            except apsw.Error as error:
                self._insert_failed(group, error)
                return
        self._writer.submit_now(partial(self._committer.commit, group, large), partial(self._committed, group))

    def _insert_failed(self, group: Group, cause: apsw.Error) -> None:
        if self._committer.broken:
            recover = partial(self._committer.recover, group, cause)
            self._writer.submit(recover, lambda fate, error: self._committed(group, (fate or "unknown", cause), error))
        else:
            self._loop.call_soon(self._committed, group, ("absent", cause), None)

    def _committed(self, group: Group, answer: tuple[Fate, Exception | None] | None, error: Exception | None) -> None:
        """The writer is done with a group; error is its own mistake, after which nothing is known."""
        fate, cause = answer if answer is not None else ("unknown", error)
        self._busy = False
        self._tell(group, fate, cause)
        if not self._committer.is_up:
            self._go_down(group if fate == "unknown" else Group(), cause)
        self._checkpoints.start(self._checkpointer, self._committer.log_pages, self._checkpoint_due)
        if not self._busy:
            self._go_on()

    def _checkpoint_due(self) -> None:
        if not self._busy:
            self._go_on()

    def _tell(self, group: Group, fate: Fate, cause: Exception | None) -> None:
        """Announce what is stored; then answer everybody who waits for the group."""
        if fate == "stored":
            self._announce(group)
        outcome: Outcome = "fail" if fate == "absent" else "info"
        known = "nothing was stored" if fate == "absent" else "whether it was stored is not known"
        for future, result in zip([w[0] for w in group.works], group.results or [None] * len(group.works), strict=True):
            _answer(future, result if fate == "stored" else self._error(f"{known}: {cause}", outcome))
        for future, _ in group.appends:
            if future.done():
                continue  # its publisher was cancelled
            if fate == "stored":
                future.set_result(None)
            else:
                future.set_exception(self._error(f"{known}: {cause}", outcome))
        for future, error in group.refused_appends:
            _answer(future, self._error(f"nothing was stored, this event cannot be: {error}", "fail"))
        for progress, settlement in group.settlements:
            progress.committed(settlement, None if fate == "stored" else self._error(f"{known}: {cause}", outcome))
        for progress, settlement, error in group.refused_settlements:
            progress.committed(settlement, error)

    def _announce(self, group: Group) -> None:
        if group.events:
            self._reader.add(group.events, group.size_bytes)
            try:
                self._on_stored(group.events)
            except Exception:
                self._logger.exception("%s: announcing stored events failed; their publishers go on", self._path)

    def _go_down(self, unresolved: Group, cause: Exception | None) -> None:
        """Refuse everything until the file can be opened again; then look what became of the unresolved group."""
        self._refusal = (
            self._refusal or f"writing failed ({cause}) and the file cannot be reopened yet; it is being tried"
        )
        waiting, self._groups = self._groups, deque()
        self._next_group()
        for group in waiting:
            self._tell(group, "absent", cause)
        self._try_later(unresolved, cause)

    def _try_later(self, unresolved: Group, cause: Exception | None) -> None:
        def reopen() -> None:
            self._busy = True
            self._writer.submit(partial(self._committer.recover, unresolved, cause or StoreError("unknown")), reopened)

        def reopened(fate: Fate | None, error: Exception | None) -> None:
            self._busy = False
            if not self._committer.is_up:
                if self._closing is None:
                    self._try_later(unresolved, cause)
            else:
                self._reopen_after_s = REOPEN_AFTER_S
                self._logger.warning("%s: open again", self._path)
                if fate == "stored":
                    self._announce(unresolved)
                self._reader.head = self._seq  # of all that was given it is known by now whether it is stored
                if self._closing is None:
                    self._refusal = None
            self._go_on()

        self._reopen_timer = self._clock.call_later(self._reopen_after_s, reopen)
        self._reopen_after_s = min(2 * self._reopen_after_s, REOPEN_AT_MOST_AFTER_S)

    def _error(self, text: str, outcome: Outcome) -> StoreError:
        return StoreError(f"{self._path}: {text}", outcome)


def _answer(future: asyncio.Future[Any], result: Any) -> None:
    """Tell a waiter, unless it was cancelled."""
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
