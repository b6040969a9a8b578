"""What is kept though its event was not sampled: failed, retried, dead-lettered, and the slowest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.core.world import Heard, until
from tests.plugins import surroundings
from tests.plugins.surroundings import HandClock
from tests.plugins.tracing.traced import MANY_TURNS, of, rows, traced

from squall import Event, EventRouter, Reject
from squall.core.delivery import Attempt, Attempts
from squall.core.identity import system_ids
from squall.core.store import DeadLetter
from squall.plugins.faults import FaultsPlugin
from squall.plugins.tracing.options import TracingOptions
from squall.plugins.tracing.records import Delivered
from squall.plugins.tracing.slowest import Slowest
from squall.plugins.tracing.tracer import Tracer


class Failing:
    """A handler that fails the first `times` times."""

    def __init__(self, times: int, error: Callable[[], Exception]) -> None:
        self.left, self.calls, self._error = times, 0, error

    async def __call__(self, event: Event) -> None:
        self.calls += 1
        self.left -= 1
        if self.left >= 0:
            raise self._error()


async def publish_one(router: EventRouter, handler: Failing, calls: int) -> str:
    """One event to a failing subscriber and to a healthy one; its id."""
    heard = Heard()
    await router.subscriber("good").subscribe("order.>", heard)
    await router.subscriber("bad").subscribe("order.>", handler)
    event_id = await router.publisher("shop").publish("order.created", b"")
    await until(lambda: handler.calls == calls and heard.events, MANY_TURNS)
    return event_id


async def test_a_retried_event_is_kept_from_its_failure_on(tmp_path: Path) -> None:
    """Marked as partial: neither its publish nor the other subscriber's delivery were noted."""
    async with traced(tmp_path, sample=0.0, keep=["failed", "retried"]) as router:
        event_id = await publish_one(router, Failing(1, lambda: ValueError("no")), 2)
    spans = rows(tmp_path)
    assert [(one.name, one.attempt, one.why, one.error) for one in spans if one.operation == "process"] == [
        ("process order.created", 1, "failed", "ValueError"),
        ("process order.created", 2, "retried", None),
    ]
    assert all(one.partial and one.trace == event_id.replace("-", "") for one in spans)
    first, second = of(spans, "process")
    assert (first.parent, second.parent) == (None, None)
    assert second.links[1] == {"trace": first.trace, "span": first.span, "what": "attempt"}
    assert [(one.name, one.parent) for one in spans if one.operation in ("nak", "ack")] == [
        ("nak order.created", first.span),
        ("ack order.created", second.span),
    ]
    assert first.events[-1]["name"] == "exception"


async def test_a_dead_letter_is_kept(tmp_path: Path) -> None:
    """With the reason, though nothing before it was."""
    async with traced(tmp_path, sample=0.0, keep=["dead_lettered"]) as router:
        await publish_one(router, Failing(1, lambda: Reject("not ours")), 1)
    spans = rows(tmp_path)
    assert [one.operation for one in spans] == ["process", "dead_letter"]
    assert spans[1].error == "rejected"
    assert spans[1].attributes["squall.reason"] == "rejected"


async def redriven(router: EventRouter) -> None:
    """One event is given up, and taken after its redrive."""
    failing = Failing(1, lambda: Reject("no"))
    await publish_one(router, failing, 1)
    async with asyncio.timeout(20):
        while not (plan := await router.plan_redrive()).letters:  # noqa: ASYNC110  the store settles soon
            await asyncio.sleep(0.005)
    await router.redrive(plan.token, origin="ops")
    await until(lambda: failing.calls == 2, MANY_TURNS)


@pytest.mark.parametrize("sample", [0.0, 1.0])
async def test_a_redrive_is_a_span_to_which_the_next_delivery_links(sample: float, tmp_path: Path) -> None:
    """In the event's own trace; whether that is sampled, or kept from the failure on."""
    async with traced(tmp_path, sample=sample, keep=["dead_lettered", "retried"]) as router:
        await redriven(router)
    spans = rows(tmp_path)
    (redrive,) = of(spans, "redrive")
    assert (redrive.name, redrive.subscription, redrive.attributes["squall.origin"]) == (
        "redrive order.created", "bad", "ops",
    )  # fmt: skip
    first, again = (one for one in of(spans, "process") if one.subscription == "bad")
    assert first.trace == again.trace == redrive.trace
    assert again.links[-1] == {"trace": redrive.trace, "span": redrive.span, "what": "redrive"}
    assert ("squall.redriven" in first.attributes, again.attributes["squall.redriven"]) == (False, True)
    assert (again.waited, again.attempt, again.why) == (None, 1, "sampled" if sample else "retried")
    assert {one.partial for one in (first, again, redrive)} == {not sample}


async def test_a_redrive_is_not_kept_where_it_is_not_asked_for(tmp_path: Path) -> None:
    """Nor is its delivery."""
    async with traced(tmp_path, sample=0.0, keep=["dead_lettered"]) as router:
        await redriven(router)
    assert {(one.operation, one.subscription) for one in rows(tmp_path)} == {("process", "bad"), ("dead_letter", "bad")}


async def test_nothing_is_kept_where_nothing_is_asked_for(tmp_path: Path) -> None:
    """Not sampled, and no rule."""
    async with traced(tmp_path, sample=0.0, keep=[]) as router:
        await publish_one(router, Failing(1, lambda: ValueError("no")), 2)
    assert rows(tmp_path) == []


async def test_a_sampled_event_that_fails_is_whole(tmp_path: Path) -> None:
    """No rule touches what is traced from its publish on."""
    async with traced(tmp_path) as router:
        await publish_one(router, Failing(3, lambda: ValueError("no")), 3)
    spans = rows(tmp_path)
    assert {one.why for one in spans} == {"sampled"}
    assert not any(one.partial for one in spans)
    assert [one.attempt for one in of(spans, "process", subscription="bad")] == [1, 2, 3]
    assert [one.operation for one in spans if one.subscription == "bad"].count("dead_letter") == 1


async def test_errors_tell_no_secrets(tmp_path: Path) -> None:
    """What is hidden in dead letters is hidden here."""
    async with traced(tmp_path) as router:
        await publish_one(router, Failing(1, lambda: ValueError("amqp://me:hunter2@host is down")), 2)
    (failed,) = of(rows(tmp_path), "process", error="ValueError")
    assert failed.message == "amqp://me:***@host is down"
    assert "hunter2" not in str(failed)


async def test_a_fault_is_an_event_on_the_span_that_it_hit(tmp_path: Path) -> None:
    """By name and seam, on the attempt, and on no other."""
    faults = FaultsPlugin(inject=[{"on": "bad", "do": "exception"}])
    async with traced(tmp_path, faults, sample=0.0) as router:
        heard = Heard()
        await router.subscriber("bad").subscribe("order.>", heard)
        await router.subscriber("good").subscribe("bill.>", heard)
        await router.publisher("shop").publish("order.created", b"")
        await router.publisher("shop").publish("bill.made", b"")
        await until(lambda: router.get_metrics().dead_lettered, MANY_TURNS)
    spans = rows(tmp_path)
    hit = [[note["attributes"] for note in one.events if note["name"] == "fault"] for one in of(spans, "process")]
    assert sorted(hit) == [[], *[['{"squall.fault":"exception","squall.seam":"handler:bad"}']] * 3]


def test_the_slowest_are_those_that_took_longest() -> None:
    """At most so many, and the floor tells what cannot be among them."""
    slowest: Slowest[str] = Slowest(2)
    assert slowest.offer(5, "a") is None
    assert slowest.floor_ns == 0
    assert slowest.offer(7, "b") is None
    assert slowest.floor_ns == 5
    assert slowest.offer(5, "c") == "c"
    assert slowest.offer(9, "d") == "a"
    assert slowest.floor_ns == 7
    assert slowest.take() == ["d", "b"]
    assert (slowest.floor_ns, slowest.take()) == (0, [])


class Bench:
    """A tracer by itself, told of batches of attempts that took so many milliseconds."""

    def __init__(self, **options: object) -> None:
        self.clock = HandClock()
        self.tracer = Tracer(TracingOptions.of("tracing", {"sample": 0.0, **options}), self.clock, system_ids())
        self.subscription = surroundings.subscription()
        self.seq = 0

    def batch(self, *took_ms: int, settle: bool = True) -> Attempts:
        """Attempts of events that were published so long before their handlers ended."""
        attempts = Attempts()
        for one in took_ms:
            self.seq += 1
            ended_ns = self.clock.monotonic_ns()
            published_ns = ended_ns - one * 1_000_000
            made = surroundings.event(published_ns=published_ns)
            made.seq = self.seq
            attempts.append(Attempt(made, published_ns, ended_ns))
        self.tracer.attempted(self.subscription, attempts, self.clock.monotonic_ns())
        if settle:
            self.tracer.settled(self.subscription, attempts, self.clock.monotonic_ns(), "ok")
        return attempts

    def kept(self) -> list[int]:
        """The seqs of the deliveries that were kept by now."""
        return [one.attempt.event.seq for one in self.tracer.records if isinstance(one, Delivered)]


def test_the_slowest_of_each_window_are_kept() -> None:
    """Told when the window is over, slowest first; then a new one begins."""
    bench = Bench(slowest=2, window=10.0)
    bench.batch(1, 30, 2)
    bench.batch(3, 40, 50)
    assert bench.kept() == []
    bench.clock.move(10.0)
    bench.tracer.tick()
    assert bench.kept() == [6, 5]
    bench.batch(1)
    bench.clock.move(10.0)
    bench.tracer.tick()
    assert bench.kept() == [6, 5, 7]


def test_what_was_redriven_counts_from_its_attempt() -> None:
    """Not from its publish, which may be long ago: it would always be the slowest."""
    bench = Bench(slowest=1, window=10.0, keep=["slowest"])
    before = bench.batch(1)
    letter = DeadLetter(before[0].event, bench.subscription.id, "billing", ">", "rejected", 1, 0, 0, "", "", "")
    bench.clock.move(5.0)
    bench.tracer.redriven(bench.subscription.id, [letter], "")
    now_ns = bench.clock.monotonic_ns()
    bench.tracer.attempted(bench.subscription, Attempts([Attempt(before[0].event, now_ns, now_ns + 1)]), now_ns)
    bench.clock.move(5.0)
    bench.tracer.tick()
    (kept,) = (one for one in bench.tracer.records if isinstance(one, Delivered))
    assert kept.attempt is before[0]


def test_one_of_the_slowest_waits_for_its_settlement() -> None:
    """Decided about before the store answered, it is handed on with the answer, and what was displaced never is."""
    bench = Bench(slowest=1, window=1.0)
    first = bench.batch(5, settle=False)
    second = bench.batch(9, settle=False)
    bench.clock.move(1.0)
    bench.tracer.tick()
    assert bench.kept() == []
    bench.tracer.settled(bench.subscription, second, 7, "refused")
    bench.tracer.settled(bench.subscription, Attempts([*first, *second]), 8, "ok")
    (record,) = bench.tracer.records
    assert isinstance(record, Delivered)
    assert (record.attempt.event.seq, record.refused_ns, record.settled_ns, record.why) == (2, [7], 8, "slowest")


async def test_what_never_gets_an_answer_is_kept_without_one(tmp_path: Path) -> None:
    """A settlement that the store did not take before the router stopped."""
    bench = Bench(slowest=1)
    bench.batch(5, settle=False)
    bench.tracer.tick(over=True)
    (record,) = bench.tracer.records
    assert isinstance(record, Delivered)
    assert record.settled_ns == 0
