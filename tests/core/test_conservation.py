"""Whatever is done to a router, in whatever order: each stored event ends once for each subscription, what was
acknowledged is stored, what failed is not, and the full room is there again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.core.world import Call, KeptMemory, ManualStore, OnStored, Policy, World
from tests.fast import first

from squall import (
    Decision,
    Event,
    EventData,
    EventStore,
    FailedDelivery,
    Nak,
    Priority,
    PublishError,
    Query,
    StoreError,
    Term,
)
from squall.core.config import Backlog
from squall.core.subscription import DROPS, OverflowPolicy

ROOM = 3
Op = tuple[Any, ...]

publishes = st.tuples(
    st.just("publish"),
    st.sampled_from(["a.x", "a.y", "b.x"]),
    st.sampled_from([Priority.HIGH, Priority.NORMAL]),
    st.sampled_from([None, "k", "l"]),
)
batches = st.tuples(st.just("batch"), st.lists(st.sampled_from(["a.x", "a.y", "b.x"]), min_size=1, max_size=ROOM))
ends = st.tuples(st.sampled_from(["finish", "finish", "finish", "fail"]), st.integers(0, 3))
commits = st.tuples(st.sampled_from(["commit", "commit", "commit", "auto", "manual"]))
passing = st.tuples(st.just("advance"), st.sampled_from([0.0, 0.05, 0.15, 0.7]))
pauses = st.tuples(st.sampled_from(["pause", "resume"]), st.integers(0, 1))
refusals = st.tuples(st.sampled_from(["refuse", "accept", "fail commit"]))
cancels = st.tuples(st.just("cancel"), st.integers(0, 3))
orderly = st.one_of(publishes, publishes, batches, ends, ends, commits, passing, pauses)


def three_quick_attempts(delivery: FailedDelivery, error: BaseException) -> Decision:
    return Nak(0.1) if delivery.attempt < 3 else Term("delivery_limit")


class Storm:
    """Two subscriptions whose handlers are ended by hand, a store that commits by hand, and open publishes."""

    def __init__(
        self,
        overflows: Sequence[OverflowPolicy],
        options: dict[str, object],
        wrap: Callable[[EventStore], ManualStore] = ManualStore,
    ) -> None:
        self.kept = KeptMemory(wrap)
        self.world = World(
            Policy(three_quick_attempts),
            store=self.kept,
            backlog=Backlog(max_events=ROOM, timeout=0.5, overflow=overflows[0]),
        )
        self.overflows, self.options = overflows, options
        self.ids: list[str] = []
        self.calls: list[tuple[int, Call]] = []
        self.tasks: list[asyncio.Task[list[str]]] = []
        self.ended = [Counter[int](), Counter[int]()]
        self.calm = False

    async def publish(self, events: list[EventData]) -> list[str]:
        if len(events) > 1:
            return await self.world.publisher.publish_batch(events)
        (one,) = events
        return [await self.world.publisher.publish(one.event_type, b"", one.priority, key=one.key)]

    async def handle(self, number: int, event: Event) -> None:
        if not self.calm:
            call = Call(event, None)
            self.calls.append((number, call))
            try:
                await call.word
            finally:
                self.calls.remove((number, call))
        self.ended[number][event.seq] += 1

    async def subscribe(self) -> None:
        for number, pattern in enumerate(("a.*", "*.x")):

            async def handle(event: Event, number: int = number) -> None:
                await self.handle(number, event)

            options: Any = dict(self.options)
            if "name" in options:
                options["name"] += str(number)
            own = await self.world.subscriber.subscribe(pattern, handle, overflow=self.overflows[number], **options)
            self.ids.append(own)

    async def do(self, op: Op) -> None:  # noqa: C901, PLR0912  one line for each operation
        store: ManualStore = self.kept.store
        match op:
            case "publish", kind, priority, key:
                self.tasks.append(asyncio.ensure_future(self.publish([EventData(kind, b"", priority, key=key)])))
            case "batch", kinds:
                self.tasks.append(asyncio.ensure_future(self.publish([EventData(kind, b"") for kind in kinds])))
            case "cancel", n:
                if still := [task for task in self.tasks if not task.done()]:
                    still[n % len(still)].cancel()
            case ("commit",) if store.waiting:
                store.commit()
            case ("fail commit",) if store.waiting:
                store.fail()
            case ("auto",):
                store.commit_all()
                store.auto = True
            case ("manual",):
                store.auto = False
            case ("refuse",):
                store.error_at_append = StoreError("no")
            case ("accept",):
                store.error_at_append = None
            case "advance", seconds:
                await self.world.clock.advance(seconds)
            case ("pause" | "resume") as word, n:
                await getattr(self.world.subscriber, f"{word}_subscription")(self.ids[n])
            case ("finish" | "fail") as word, n if self.calls:
                _, call = self.calls[n % len(self.calls)]
                if not call.word.done():
                    call.finish() if word == "finish" else call.fail(ValueError("broken"))
        await self.world.clock.settle()

    async def calm_down(self) -> None:
        """Let everything succeed, until nothing is waiting."""
        store: ManualStore = self.kept.store
        store.error_at_append = None
        self.calm = True
        for own in self.ids:
            await self.world.subscriber.resume_subscription(own)
        for _ in range(30):
            await self.do(("auto",))
            for _, call in [*self.calls]:
                if not call.word.done():
                    call.finish()
            await self.world.clock.advance(0.3)
            if all(task.done() for task in self.tasks) and not self.world.router.get_metrics().pending:
                return
        raise AssertionError("something waits for ever")


async def violations(storm: Storm, ops: Sequence[Op]) -> list[str]:
    """What is wrong after these operations and a calm end."""
    found: list[str] = []
    async with storm.world as world:
        await storm.subscribe()
        for op in ops:
            await storm.do(op)
        await storm.calm_down()
        stored = (await world.router.store.read(Query(pattern=">"))).events
        found += outcomes(storm, {one.id for one in stored})
        dead = Counter((one.subscription_id, one.event.seq) for one in await world.dead())
        dropped = world.router.get_metrics().dropped
        at_most_once = storm.options.get("delivery") == "at-most-once"
        for number, pattern in enumerate(("a.", ".x")):
            owed = [one.seq for one in stored if pattern in one.type]
            ended = Counter(storm.ended[number])
            ended.update({seq: n for (own, seq), n in dead.items() if own == storm.ids[number]})
            missing = [seq for seq in owed if not ended[seq]]
            if at_most_once:
                missing = []  # a failed one is over, and nobody was told
            dropped -= len(missing) if storm.overflows[number] == "drop_new" else 0
            if missing and storm.overflows[number] != "drop_new":
                found.append(f"subscription {number} lost {missing}")
            if again := [seq for seq, n in ended.items() if n > 1]:
                found.append(f"subscription {number} ended {again} twice")
            if unknown := [seq for seq in ended if seq not in owed]:
                found.append(f"subscription {number} was given {unknown}, owed to nobody")
        if dropped and not at_most_once:
            found.append(f"{dropped} more drops were counted than events are missing")
        for own, kind in zip(storm.ids, ("a.y", "b.x"), strict=True):
            places = await world.places(own, ROOM + 2, kind)
            if places != ROOM:
                found.append(f"there is room for {places} instead of {ROOM}")
            await world.clock.advance(0.1)
    return found


def outcomes(storm: Storm, stored: set[str]) -> list[str]:
    """Publishes whose answer is not true."""
    found = []
    for task in storm.tasks:
        if task.cancelled():
            continue
        error = task.exception()
        if error is None and not stored.issuperset(task.result()):
            found.append("an acknowledged event is not stored")
        elif error is not None and not isinstance(error, PublishError):
            found.append(f"a publish ended with {error!r}")
    answered = {
        one for task in storm.tasks if not task.cancelled() and task.exception() is None for one in task.result()
    }
    if not any(task.cancelled() for task in storm.tasks) and stored != answered:
        found.append("an event is stored whose publish failed")
    return found


def run(overflows: Sequence[OverflowPolicy], options: dict[str, object], ops: Sequence[Op]) -> None:
    assert asyncio.run(violations(Storm(overflows, options), ops)) == []


SUBSCRIPTIONS: list[dict[str, object]] = [
    {},
    {"concurrency": 3},
    {"concurrency": 3, "on_retry": "block_key"},
    {"name": "durable", "in_flight": 2},
    {"delivery": "at-most-once"},
    {"timeout_s": 0.12, "concurrency": 2},
]


SETTINGS = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
KINDS = pytest.mark.parametrize("options", first(2, SUBSCRIPTIONS), ids=str)
UNNAMED = pytest.mark.parametrize("options", first(2, [one for one in SUBSCRIPTIONS if "name" not in one]), ids=str)
BOTH = pytest.mark.parametrize("overflow", ["block", "reject"])


@KINDS
@BOTH
@given(ops=st.lists(orderly, max_size=40))
@SETTINGS
def test_all_is_well_after_any_operations(overflow: OverflowPolicy, options: dict[str, object], ops: list[Op]) -> None:
    """Publishes, batches, ends, commits, pauses and time, in any order."""
    run((overflow, overflow), options, ops)


@KINDS
@BOTH
@given(ops=st.lists(st.one_of(orderly, cancels), max_size=40))
@SETTINGS
def test_all_is_well_though_publishers_give_up(
    overflow: OverflowPolicy, options: dict[str, object], ops: list[Op]
) -> None:
    """Cancelled while they wait for room, or for the store."""
    run((overflow, overflow), options, ops)


@KINDS
@BOTH
@given(ops=st.lists(st.one_of(orderly, refusals), max_size=40))
@SETTINGS
def test_all_is_well_though_the_store_fails(
    overflow: OverflowPolicy, options: dict[str, object], ops: list[Op]
) -> None:
    """At once, or when it commits."""
    run((overflow, overflow), options, ops)


@KINDS
@pytest.mark.parametrize("overflow", ["block"])
@given(ops=st.lists(st.one_of(orderly, refusals, cancels), max_size=40))
@example([("publish", "a.x", Priority.NORMAL, None), ("cancel", 0), ("fail commit",)])
@SETTINGS
def test_all_is_well_after_any_storm(overflow: OverflowPolicy, options: dict[str, object], ops: list[Op]) -> None:
    """Publishers give up and the store fails."""
    run((overflow, overflow), options, ops)


@UNNAMED
@given(overflow=st.sampled_from(DROPS), ops=st.lists(st.one_of(orderly, refusals, cancels), max_size=40))
@SETTINGS
def test_all_is_well_where_everybody_drops(overflow: OverflowPolicy, options: dict[str, object], ops: list[Op]) -> None:
    """What is missing was counted as dropped or went to the dead letters, and nothing else."""
    run((overflow, overflow), options, ops)


COUNTED = pytest.mark.parametrize("options", [{}, {"concurrency": 3}], ids=str)
BESIDE = [("publish", "a.x", Priority.NORMAL, None)] * (ROOM + 1) + [("auto",), ("finish", 0)]


@COUNTED
@pytest.mark.parametrize("other", ["block", "reject"])
@given(ops=st.lists(st.one_of(orderly, refusals, cancels), max_size=40))
@example(BESIDE)
@SETTINGS
def test_all_is_well_where_one_drops_and_one_does_not(
    other: OverflowPolicy, options: dict[str, object], ops: list[Op]
) -> None:
    """Neither pays for the other."""
    run(("drop_new", other), options, ops)


# Planted bugs: what the check must notice

PUBLISH = ("publish", "a.x", Priority.NORMAL, None)


class Forgetful(ManualStore):
    """Stores and acknowledges its first event, and announces it to nobody."""

    first = True

    def commit(self) -> None:
        self.muted, self.first = self.first, False
        super().commit()
        self.muted = False


class Twice(ManualStore):
    """Announces each event twice."""

    async def open(self, on_stored: OnStored) -> int:
        return await super().open(lambda events: on_stored([*events, *events]))


class Hopeful(ManualStore):
    """Acknowledges what it did not store."""

    def commit(self) -> None:
        self.waiting.pop(0)[1].set_result(None)


class Spiteful(ManualStore):
    """Stores what it says it has refused."""

    def fail(self, error: Exception | None = None) -> None:
        events, answer = self.waiting.pop(0)
        self.inner.append(events)
        answer.set_exception(StoreError("no"))


@pytest.mark.parametrize(
    ("bug", "ops", "finding"),
    [
        (ManualStore, [PUBLISH, ("cancel", 0), ("commit",)], None),
        (Forgetful, [PUBLISH, ("commit",)], "lost [1]"),
        (Forgetful, [PUBLISH, ("commit",)], "there is room for 2 instead of 3"),
        (Twice, [PUBLISH, ("commit",)], "ended [1] twice"),
        (Hopeful, [PUBLISH, ("commit",)], "an acknowledged event is not stored"),
        (Spiteful, [PUBLISH, ("fail commit",)], "an event is stored whose publish failed"),
    ],
)
async def test_a_wrong_store_is_noticed(bug: type[ManualStore], ops: list[Op], finding: str | None) -> None:
    """Losing, doubling, acknowledging on hope, storing what failed."""
    found = await violations(Storm(("block", "block"), {}, bug), ops)
    assert found == [] if finding is None else any(finding in one for one in found)
