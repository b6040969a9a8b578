"""Four levels in proportion 8:4:2:1, and nobody starves: the queue alone, and as a subscription's worker drives it."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tests.core.world import World, event, until

from squall import Event, Priority, PriorityEventQueue

BOUNDS = {Priority.CRITICAL: 7, Priority.HIGH: 8, Priority.NORMAL: 11, Priority.LOW: 18}
SHARES = {Priority.CRITICAL: 8 / 15, Priority.HIGH: 4 / 15, Priority.NORMAL: 2 / 15, Priority.LOW: 1 / 15}
UNSHRUNK = settings(deadline=None, database=None, max_examples=500, phases=[Phase.generate])
priorities = st.sampled_from([*Priority])


def filled(depths: Sequence[int]) -> PriorityEventQueue:
    """A queue with so many events at each level."""
    queue = PriorityEventQueue()
    for priority, depth in zip(Priority, depths, strict=True):
        for _ in range(depth):
            queue.put_nowait(event(priority=priority))
    return queue


class Waits:
    """How many other events were dispatched while a level waited; `violations` names each that is past the bound.

    A level waits from when it was last served, or from when it stopped being empty, if that is later.
    """

    def __init__(self, slack: int = 0) -> None:
        self.slack = slack
        self.depths = Counter[Priority]()
        self.others = Counter[Priority]()
        self.violations: list[str] = []

    def arrived(self, priority: Priority) -> None:
        if not self.depths[priority]:
            self.others[priority] = 0
        self.depths[priority] += 1

    def served(self, priority: Priority) -> None:
        self.depths[priority] -= 1
        self.others[priority] = 0
        for other in Priority:
            if other is not priority and self.depths[other]:
                self.others[other] += 1
                if self.others[other] > BOUNDS[other] + self.slack:
                    self.violations.append(f"{other.name} waits for {self.others[other]} others")


class QueueMachine(RuleBasedStateMachine):
    """Any mixture of arrivals and departures, levels that empty and return included."""

    make: Callable[[], PriorityEventQueue] = PriorityEventQueue

    def __init__(self) -> None:
        super().__init__()
        self.queue = type(self).make()
        self.expected: dict[Priority, deque[Event]] = {priority: deque() for priority in Priority}
        self.waits = Waits()

    @rule(priority=priorities, n=st.integers(1, 40))
    def put(self, priority: Priority, n: int) -> None:
        for _ in range(n):
            one = event(priority=priority)
            self.queue.put_nowait(one)
            self.expected[priority].append(one)
            self.waits.arrived(priority)

    @rule(n=st.integers(1, 60))
    def take(self, n: int) -> None:
        for _ in range(n):
            if not any(self.expected.values()):
                assert self.queue.take() is None
                with pytest.raises(asyncio.QueueEmpty):
                    self.queue.get_nowait()
                return
            one = self.queue.get_nowait()
            assert one is self.expected[one.priority].popleft(), "the oldest of its level is first"
            self.waits.served(one.priority)
        assert not self.waits.violations

    @invariant()
    def it_knows_what_waits(self) -> None:
        depths = {priority: len(waiting) for priority, waiting in self.expected.items()}
        assert self.queue.queue_depths == depths
        assert len(self.queue) == sum(depths.values())
        assert self.queue.empty() is not any(depths.values())


TestQueueMachine = QueueMachine.TestCase


class Strict(PriorityEventQueue):
    """The most urgent level always goes first."""

    def take(self) -> Event | None:
        return next((level.popleft() for level in self.levels if level), None)


class Hoarding(PriorityEventQueue):
    """Stride scheduling that forgets the virtual time: a level that returns has saved up its turns."""

    def __init__(self) -> None:
        super().__init__()
        self.own = [0, 0, 0, 0]

    def take(self) -> Event | None:
        waiting = [index for index in range(4) if self.levels[index]]
        if not waiting:
            return None
        best = min(waiting, key=lambda index: self.own[index])
        self.own[best] += (1, 2, 4, 8)[best]
        return self.levels[best].popleft()


class NewestFirst(PriorityEventQueue):
    """Right shares, wrong order."""

    def take(self) -> Event | None:
        for level in self.levels:
            level.reverse()
        one = super().take()
        for level in self.levels:
            level.reverse()
        return one


class Forgetful(PriorityEventQueue):
    """Loses an event now and then."""

    def put_nowait(self, event: Event) -> None:
        if len(self) != 30:
            super().put_nowait(event)


@pytest.mark.parametrize("wrong", [Strict, Hoarding, NewestFirst, Forgetful])
def test_a_wrong_queue_is_noticed(wrong: Callable[[], PriorityEventQueue]) -> None:
    """Starving, hoarding, disordering and losing each break the machine above."""

    class Machine(QueueMachine):
        make = wrong

    with pytest.raises(AssertionError):
        run_state_machine_as_test(Machine, settings=UNSHRUNK)


def test_shares_under_backlog_are_53_27_13_and_7_percent() -> None:
    """In any fifteen dispatches in a row, each level has its share, but for one."""
    queue = filled([1600, 800, 400, 200])
    served = [queue.get_nowait().priority for _ in range(1500)]
    assert Counter(served) == {priority: round(share * 1500) for priority, share in SHARES.items()}
    for begin in range(0, 1500 - 15):
        window = Counter(served[begin : begin + 15])
        assert all(abs(window[priority] - share * 15) < 2 for priority, share in SHARES.items())


def test_the_more_urgent_level_goes_first_among_equals() -> None:
    """A fresh queue begins with its most urgent level."""
    queue = filled([1, 1, 1, 1])
    assert [queue.get_nowait().priority for _ in range(4)] == [*Priority]


def test_events_put_in_a_level_are_the_queues_own() -> None:
    """The seed's four queues are the levels themselves."""
    queue = PriorityEventQueue()
    one = event(priority=Priority.NORMAL)
    queue.normal_queue.put_nowait(one)
    assert queue.get_nowait() is one
    assert queue.normal_queue.qsize() == 0


def test_processing_rates_are_events_per_second_since_the_last_measure() -> None:
    """Counted per level, over the time between two calls; time that stands still changes nothing."""
    queue = filled([80, 0, 0, 20])
    queue.measure(1_000_000_000)
    for _ in range(45):
        queue.get_nowait()
    queue.measure(3_000_000_000)
    rates = queue.processing_rates
    assert sum(rates.values()) == 22.5
    assert rates[Priority.CRITICAL] == 20.0
    queue.measure(3_000_000_000)
    assert queue.processing_rates == rates


# The same, as a subscription's workers drive it


async def dispatched(
    backlog: Sequence[Priority], arrivals: Sequence[Sequence[Priority]], *, concurrency: int, suspends: bool
) -> list[Priority]:
    """What a subscription that was paused over a backlog is given, in order; its n-th call publishes arrivals[n].
    Fails when a level waits for longer than it may."""
    waits, served = Waits(slack=concurrency - 1), list[Priority]()
    total = len(backlog) + sum(map(len, arrivals))

    async def handle(event: Event) -> None:
        number = len(served)
        served.append(event.priority)
        waits.served(event.priority)
        for priority in arrivals[number] if number < len(arrivals) else ():
            waits.arrived(priority)
            await world.publish("order.created", priority=priority)
        if suspends:
            await asyncio.sleep(0)

    async with World() as world:
        own = await world.subscriber.subscribe("order.*", handle, concurrency=concurrency)
        await world.subscriber.pause_subscription(own)
        for priority in backlog:
            waits.arrived(priority)
            await world.publish("order.created", priority=priority)
        await world.subscriber.resume_subscription(own)
        await until(lambda: len(served) == total)
    assert not waits.violations
    return served


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_a_resumed_subscription_gets_the_shares(concurrency: int) -> None:
    """53/27/13/7 % of the first 300 deliveries of a backlog in which every level is deep enough."""
    backlog = [priority for _ in range(200) for priority in Priority]
    served = await dispatched(backlog, [], concurrency=concurrency, suspends=False)
    counts = Counter(served[:300])
    assert all(abs(counts[priority] - share * 300) <= concurrency for priority, share in SHARES.items())


@pytest.mark.parametrize("suspends", [False, True])
async def test_a_subscription_that_starves_a_level_is_noticed(monkeypatch: pytest.MonkeyPatch, suspends: bool) -> None:
    """The measure of waiting above holds the worker's own path, not only the queue's."""
    backlog = [Priority.LOW, *[Priority.CRITICAL] * 40]
    assert (await dispatched(backlog, [], concurrency=1, suspends=suspends)).index(Priority.LOW) <= 18
    monkeypatch.setattr(PriorityEventQueue, "take", Strict.take)
    with pytest.raises(AssertionError):
        await dispatched(backlog, [], concurrency=1, suspends=suspends)


@pytest.mark.parametrize(("concurrency", "suspends"), [(1, False), (1, True), (3, False), (3, True)])
@given(
    backlog=st.lists(priorities, min_size=1, max_size=60),
    arrivals=st.lists(st.lists(priorities, max_size=4), max_size=60),
)
@settings(max_examples=40)
def test_no_level_starves_in_a_subscription(
    concurrency: int, suspends: bool, backlog: list[Priority], arrivals: list[list[Priority]]
) -> None:
    """The bound 7/8/11/18 (and what else is in flight) holds for whatever arrives while handlers run."""
    arrivals = arrivals[: len(backlog)]  # later calls may never come
    asyncio.run(dispatched(backlog, arrivals, concurrency=concurrency, suspends=suspends))
