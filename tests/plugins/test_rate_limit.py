"""Rate limit: never more than burst + rate·t, never less, and one clear refusal beyond."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.plugins.surroundings import Surroundings, event

from squall.core.errors import ConfigError, Refused
from squall.core.event import Event
from squall.core.middleware import Around, Guard
from squall.plugins.rate_limit import Gcra, RateLimitOptions, RateLimitPlugin

NS = 1_000_000_000


def admitted(limiter: Gcra, arrivals: list[tuple[str, int]]) -> dict[str, list[int]]:
    """When, in ns, which scope's events were let through, of those that arrive."""
    times_ns: dict[str, list[int]] = {}
    for scope, now_ns in arrivals:
        if limiter.reserve(scope, now_ns) == 0:
            times_ns.setdefault(scope, []).append(now_ns)
    return times_ns


def check_bound(times_ns: list[int], rate: float, burst: int) -> None:
    """In no interval between two events are there more than burst + rate·t of them."""
    for first, begin_ns in enumerate(times_ns):
        for last in range(first + burst, len(times_ns)):
            allowed = burst + rate * (times_ns[last] - begin_ns) / NS
            assert last - first + 1 <= allowed + 1e-6, (first, last)


def check_conformance(kind: type[Gcra]) -> None:
    """Against a leaky bucket, GCRA's other formulation (ITU-T I.371), and against the bound itself."""
    for seed in range(300):
        random = Random(seed)
        rate, burst = random.choice((0.5, 3.0, 10.0, 250.0)), random.choice((1, 2, 7))
        limiter, now_ns, level_ns, last_ns = kind(rate, burst, 10), NS, 0.0, NS
        step_ns = NS / rate
        times_ns: list[int] = []
        for _ in range(80):
            now_ns += random.choice(
                (0, 0, round(step_ns / 3), round(step_ns) + 1, round(random.expovariate(1 / step_ns)))
            )
            level_ns, last_ns = max(0.0, level_ns - (now_ns - last_ns)), now_ns
            conforms = level_ns <= (burst - 1) * step_ns
            on_the_edge = abs(level_ns - (burst - 1) * step_ns) < 200  # intervals are rounded up to whole ns
            wait_ns = limiter.reserve("a", now_ns)
            if not on_the_edge:
                assert (wait_ns == 0) == conforms
                assert conforms or wait_ns == pytest.approx(level_ns - (burst - 1) * step_ns, abs=200)
            if wait_ns == 0:
                level_ns += step_ns
                times_ns.append(now_ns)
        check_bound(times_ns, rate, burst)


def check_many_scopes(kind: type[Gcra]) -> None:
    """The bound holds for every scope, however many compete for the few that are tracked."""
    for seed in range(60):
        random = Random(seed)
        rate, burst = 2.0, random.choice((1, 3))
        now_ns, arrivals = NS, list[tuple[str, int]]()
        for _ in range(300):
            now_ns += random.choice((0, 0, 50_000_000, 400_000_000))
            arrivals.append((f"source-{min(19, int(random.expovariate(0.3)))}", now_ns))
        limiter = kind(rate, burst, 5)
        for times_ns in admitted(limiter, arrivals).values():
            check_bound(times_ns, rate, burst)
        assert len(limiter._tats_ns) <= 5


class OneTooMany(Gcra):
    def __init__(self, rate: float, burst: int, max_scopes: int) -> None:
        super().__init__(rate, burst + 1, max_scopes)


class HoardsPauses(Gcra):
    def reserve(self, scope: str, now_ns: int, patience_ns: int = 0) -> int:
        tat_ns = self._tats_ns.get(scope, now_ns)
        wait_ns = max(0, tat_ns - now_ns - self._tolerance_ns)
        if wait_ns <= patience_ns:
            self._tats_ns[scope] = tat_ns + self._interval_ns
        return wait_ns


class CountsRefused(Gcra):
    def reserve(self, scope: str, now_ns: int, patience_ns: int = 0) -> int:
        wait_ns = super().reserve(scope, now_ns, patience_ns)
        if wait_ns > patience_ns:
            self._tats_ns[scope] += self._interval_ns
        return wait_ns


class FixedWindow(Gcra):
    """So many a second, by the second on the clock: twice the burst around its turn."""

    def reserve(self, scope: str, now_ns: int, patience_ns: int = 0) -> int:
        window = now_ns // (self._interval_ns + self._tolerance_ns)
        begun, count = getattr(self, "_window", (-1, 0))
        count = count + 1 if begun == window else 1
        self._window = (window, count)
        return 0 if count <= self._tolerance_ns // self._interval_ns + 1 else 1


class ForgetsTheBusy(Gcra):
    def _make_room(self, now_ns: int) -> int:
        del self._tats_ns[next(iter(self._tats_ns))]
        return 0


class NeverForgets(Gcra):
    def _make_room(self, now_ns: int) -> int:
        return 0


def test_it_lets_through_what_conforms_and_nothing_else() -> None:
    """Decisions and waits are those of the leaky bucket, and no interval has too many events."""
    check_conformance(Gcra)


def test_the_bound_holds_for_more_scopes_than_are_tracked() -> None:
    """Forgetting a scope never gives it a second burst."""
    check_many_scopes(Gcra)


@pytest.mark.parametrize("broken", [OneTooMany, HoardsPauses, CountsRefused, FixedWindow])
def test_a_wrong_limiter_is_noticed(broken: type[Gcra]) -> None:
    """The check above fails for limiters that are almost right."""
    with pytest.raises(AssertionError):
        check_conformance(broken)


@pytest.mark.parametrize("broken", [ForgetsTheBusy, NeverForgets])
def test_a_wrong_eviction_is_noticed(broken: type[Gcra]) -> None:
    """Evicting a busy scope breaks the bound; evicting none breaks the promise about memory."""
    with pytest.raises(AssertionError):
        check_many_scopes(broken)


@given(rate=st.floats(0.01, 1_000_000), burst=st.integers(1, 20))
def test_a_steady_stream_at_the_rate_passes(rate: float, burst: int) -> None:
    """Not a single event is refused that comes no faster than allowed."""
    limiter = Gcra(rate, burst, 1)
    interval_ns = -int(-NS // rate)
    assert all(limiter.reserve("a", NS + n * (interval_ns + 1)) == 0 for n in range(50))


def test_idle_scopes_make_room_for_new_ones() -> None:
    """A scope whose burst is whole again is forgotten; while all are busy a new one must wait for the first."""
    limiter = Gcra(1.0, 1, 2)
    assert limiter.reserve("a", NS) == limiter.reserve("b", NS + NS // 2) == 0
    assert limiter.reserve("c", NS + NS // 2) == NS // 2
    assert limiter.reserve("c", 2 * NS) == 0
    assert limiter.reserve("b", 2 * NS) == NS // 2


def guard_of(around: Surroundings, **options: object) -> Guard:
    layer = RateLimitPlugin(RateLimitOptions.of("rate_limit", options)).squall_publish_middleware(around.ctx)
    assert layer.stage == "limit"
    assert layer.guard is not None
    return layer.guard


def queue_of(around: Surroundings, **options: object) -> Around:
    chosen = RateLimitOptions.of("rate_limit", {"mode": "queue", **options})
    layer = RateLimitPlugin(chosen).squall_publish_middleware(around.ctx)
    assert layer.around is not None
    return layer.around


def test_a_refusal_says_which_limit_and_when_to_come_back() -> None:
    """Refused carries retry_after_s, and its time is true."""
    around = Surroundings()
    check = guard_of(around, rate=2, burst=1, per="source")
    check(event(source="shop"))
    around.clock.move(0.1)
    with pytest.raises(Refused, match=r"rate limit of source shop \(2/s, burst 1\).*order\.created.*400ms") as refused:
        check(event(source="shop"))
    assert refused.value.outcome == "fail"
    assert refused.value.retry_after_s == pytest.approx(0.4)
    around.clock.move(0.4)
    check(event(source="shop"))


@pytest.mark.parametrize(("per", "other_passes"), [("all", False), ("source", True), ("type", False)])
def test_the_limit_is_per_scope(per: str, other_passes: bool) -> None:
    """A busy source takes nothing from another where the limit is per source."""
    check = guard_of(Surroundings(), rate=1, burst=1, per=per)
    check(event("order.created", "shop"))
    if other_passes:
        check(event("order.created", "app"))
    else:
        with pytest.raises(Refused):
            check(event("order.created", "app"))


def test_burst_is_one_seconds_worth_unless_given() -> None:
    """A rate of 5 lets 5 through at once; a rate below one, one."""
    for rate, burst in ((5.0, 5), (0.2, 1)):
        check = guard_of(Surroundings(), rate=rate)
        for _ in range(burst):
            check(event())
        with pytest.raises(Refused):
            check(event())


def test_wiring_anew_gives_no_second_burst() -> None:
    """The limit belongs to the plugin, not to one composition of the chain."""
    around, plugin = Surroundings(), RateLimitPlugin(rate=1, burst=1)
    for expected in (True, False):
        check = plugin.squall_publish_middleware(around.ctx).guard
        assert check is not None
        if expected:
            check(event())
        else:
            with pytest.raises(Refused):
                check(event())


async def test_queued_publishes_go_on_in_order_at_the_rate() -> None:
    """Each waits for its own place; who would wait too long is refused at once and takes no place."""
    around = Surroundings()
    wait = queue_of(around, rate=10, burst=2, timeout=0.3)
    passed: list[tuple[str, float]] = []
    begun_ns = around.clock.monotonic_ns()

    async def following(passing: Event) -> None:
        passed.append((passing.source, (around.clock.monotonic_ns() - begun_ns) / NS))

    publishes = [asyncio.ensure_future(wait(event(source=f"p{n}"), following)) for n in range(7)]
    await around.clock.settle()
    refused = [task for task in publishes if task.done() and task.exception() is not None]
    assert refused == publishes[5:]
    for task in refused:
        error = task.exception()
        assert isinstance(error, Refused)
        assert error.retry_after_s == pytest.approx(0.1)
    await around.clock.advance(1.0)
    assert [source for source, _ in passed] == [f"p{n}" for n in range(5)]
    assert [at for _, at in passed] == pytest.approx([0, 0, 0.1, 0.2, 0.3])


async def test_a_cancelled_wait_gives_no_one_a_place_too_early() -> None:
    """The place of a publish that gave up stays empty: the bound holds still."""
    around = Surroundings()
    wait = queue_of(around, rate=1, burst=1, timeout=10)
    times_s: list[float] = []

    async def following(passing: Event) -> None:
        times_s.append(around.clock.monotonic_ns() / NS - 1)

    tasks = [asyncio.ensure_future(wait(event(), following)) for _ in range(3)]
    await around.clock.settle()
    tasks[1].cancel()
    await around.clock.settle()
    tasks.append(asyncio.ensure_future(wait(event(), following)))
    await around.clock.advance(10)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert times_s == pytest.approx([0, 2, 3])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "'rate' is required"),
        ({"rate": 0}, "rate: expected more than 0"),
        ({"rate": 5, "burst": 0}, "burst: expected at least 1"),
        ({"rate": 5, "mode": "drop"}, "mode: expected 'reject' or 'queue'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], said: str) -> None:
    """An option out of range is one clear error."""
    with pytest.raises(ConfigError, match=said):
        RateLimitOptions.of("rate_limit", options)


def test_while_all_scopes_are_busy_a_stranger_does_not_wait_in_a_queue_either() -> None:
    """It would have no place to wait for: it is told to come later, whatever patience it has."""
    limiter = Gcra(rate=1, burst=1, max_scopes=1)
    patience_ns = 5 * NS
    assert limiter.reserve("a", NS, patience_ns) == 0
    assert limiter.reserve("b", NS, patience_ns) > patience_ns
    assert limiter.reserve("b", 3 * NS, patience_ns) == 0
