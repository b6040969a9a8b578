"""What each toxic does to the bytes of one direction, in virtual time; and that no chain of them loses or mixes any."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squall.core.clock import VirtualClock
from squall.plugins.network.stages import Bites, Flow, Stage, make_stage
from squall.plugins.network.toxics import KINDS, Attributes, Toxic


class Line:
    """A direction with one stage, or several: what arrived and when (ms), what is held, how it ended."""

    def __init__(self, *told: Attributes, seed: int = 1) -> None:
        self.clock, self.random = VirtualClock(), Random(seed)
        self.arrived: list[tuple[int, bytes]] = []
        self.held = self.ends = 0
        self.closed = self.was_reset = False
        self.bites = [Bites() for _ in told]
        self.stages = [make_stage(self, bites, one) for bites, one in zip(self.bites, told, strict=True)]
        self.chain()
        for stage in self.stages:
            stage.begin()

    def chain(self) -> None:
        following: Flow = self
        for stage in reversed(self.stages):
            stage.following = following
            following = stage
        self.entry = following

    @property
    def now_ms(self) -> int:
        return round((self.clock.monotonic_ns() - 10**9) / 1e6)

    def feed(self, data: bytes) -> None:
        self.arrived.append((self.now_ms, data))

    def finish(self) -> None:
        self.ends += 1

    def hold(self, size: int) -> None:
        self.held += size

    def close(self) -> None:
        self.closed = True

    def reset(self) -> None:
        self.was_reset = True

    @property
    def bytes(self) -> bytes:
        return b"".join(data for _, data in self.arrived)


def told(kind: str, **attributes: int) -> Attributes:
    return Toxic.of(kind, attributes).attributes


async def test_latency_is_exact_and_keeps_the_order() -> None:
    """Whatever the jitter, nothing overtakes; what waits is counted as held."""
    line = Line(told("latency", latency=100))
    line.entry.feed(b"a")
    await line.clock.advance(0.04)
    line.entry.feed(b"b")
    line.entry.finish()
    assert line.held > 0
    await line.clock.advance(1)
    assert line.arrived == [(100, b"a"), (140, b"b")]
    assert (line.ends, line.held, line.bites[0].bytes) == (1, 0, 2)

    line = Line(told("latency", latency=100, jitter=100))
    for number in range(50):
        line.entry.feed(bytes([number]))
        await line.clock.advance(0.001)
    await line.clock.advance(1)
    assert line.bytes == bytes(range(50))
    times = [at for at, _ in line.arrived]
    assert times[0] > 0
    assert times[-1] <= 250
    assert len(set(times)) > 3


async def test_jitter_repeats_with_the_seed() -> None:
    async def times(seed: int) -> list[int]:
        line = Line(told("latency", latency=500, jitter=400), seed=seed)
        for _ in range(5):
            line.entry.feed(b"x")
            await line.clock.advance(2)
        return [at for at, _ in line.arrived]

    assert await times(7) == await times(7) != await times(8)


async def test_bandwidth_is_exact_over_time() -> None:
    """10 KB/s: a burst leaves in pieces of a tenth of a second, and what comes after a pause starts anew."""
    line = Line(told("bandwidth", rate=10))
    line.entry.feed(b"x" * 2_500)
    await line.clock.advance(10)
    assert [(at, len(data)) for at, data in line.arrived] == [(100, 1000), (200, 1000), (250, 500)]
    line.entry.feed(b"x" * 10)
    await line.clock.advance(10)
    assert line.arrived[-1][0] == 10_001


async def test_a_bandwidth_of_zero_holds_everything() -> None:
    """For as long as it stands, the end too."""
    line = Line(told("bandwidth", rate=0))
    line.entry.feed(b"held")
    line.entry.finish()
    await line.clock.advance(86_400)
    assert (line.arrived, line.ends) == ([], 0)
    line.stages[0].remove()
    assert (line.bytes, line.ends, line.held) == (b"held", 1, 0)


async def test_slices_are_near_the_size_and_apart() -> None:
    """Together they are what was sent."""
    line = Line(told("slicer", average_size=64, size_variation=16, delay=2_000))
    data = Random(3).randbytes(5_000)
    line.entry.feed(data)
    await line.clock.advance(10)
    assert line.bytes == data
    sizes = [len(piece) for _, piece in line.arrived]
    assert all(0 < size <= 80 for size in sizes)
    assert len(set(sizes)) > 3
    assert [at for at, _ in line.arrived] == [2 * number for number in range(len(sizes))]


async def test_slow_close_delays_the_end_alone() -> None:
    line = Line(told("slow_close", delay=300))
    line.entry.feed(b"a")
    line.entry.finish()
    assert line.arrived == [(0, b"a")]
    await line.clock.advance(0.299)
    assert line.ends == 0
    await line.clock.advance(0.001)
    assert (line.ends, line.closed) == (1, False)


async def test_timeout_begins_anew_with_whatever_is_sent() -> None:
    """As Toxiproxy's does: it closes once nothing has been sent for so long."""
    line = Line(told("timeout", timeout=100))
    for _ in range(5):
        await line.clock.advance(0.08)
        line.entry.feed(b"lost")
    assert not line.closed
    await line.clock.advance(0.1)
    assert (line.closed, line.ends, line.arrived) == (True, 1, [])
    assert (line.bites[0].connections, line.bites[0].bytes) == (1, 20)


async def test_reset_follows_what_was_sent() -> None:
    """Whoever says nothing is not reset."""
    line = Line(told("reset_peer", timeout=50))
    await line.clock.advance(10)
    assert not line.was_reset
    line.entry.feed(b"a")
    await line.clock.advance(0.049)
    assert not line.was_reset
    await line.clock.advance(0.001)
    assert (line.was_reset, line.arrived) == (True, [])


async def test_limit_data_goes_on_counting_when_it_is_told_otherwise() -> None:
    """What has passed has passed."""
    line = Line(told("limit_data", bytes=10))
    line.entry.feed(b"1234")
    more = make_stage(line, line.bites[0], told("limit_data", bytes=6))
    more.inherit(line.stages[0])
    line.stages = [more]
    line.chain()
    line.entry.feed(b"5678")
    line.entry.feed(b"9")
    assert (line.bytes, line.ends, line.closed) == (b"123456", 1, True)


async def test_what_is_due_does_not_keep_others_waiting() -> None:
    """A thousand pieces that are due at once go on in several turns of the loop."""
    line = Line(told("slicer", average_size=1))
    line.entry.feed(b"x" * 1_000)
    line.clock._timers[0][2].callback()  # type: ignore[misc]  # the first timer, without the turns after it
    assert 0 < len(line.arrived) < 100
    await line.clock.advance(0)
    assert len(line.arrived) == 1_000


LOSSLESS = st.one_of(
    st.builds(lambda ms, jitter: told("latency", latency=ms, jitter=jitter), st.integers(0, 50), st.integers(0, 50)),
    st.builds(lambda rate: told("bandwidth", rate=rate), st.integers(0, 20)),
    st.builds(
        lambda size, delay: told("slicer", average_size=size, delay=delay), st.integers(1, 20), st.integers(0, 9)
    ),
    st.builds(lambda ms: told("slow_close", delay=ms), st.integers(0, 50)),
    st.just(told("noop")),
)


@given(
    chain=st.lists(LOSSLESS, min_size=1, max_size=3),
    steps=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 30)), max_size=8),
    ends=st.booleans(),
    removed=st.integers(0, 8),
)
def test_no_chain_loses_or_mixes_what_it_does_not_mean_to(
    chain: list[Attributes], steps: list[tuple[int, int]], ends: bool, removed: int
) -> None:
    """Whatever is taken away at whatever time: all bytes arrive in order, and the end after them, once."""

    async def play() -> None:
        line = Line(*chain)
        sent = b""
        for number, (size, wait_ms) in enumerate(steps):
            data = bytes((len(sent) + at) % 251 for at in range(size))
            if data:
                line.entry.feed(data)
            sent += data
            await line.clock.advance(wait_ms / 1e3)
            assert sent.startswith(line.bytes)
            if number == removed:
                line.stages.pop(0).remove()
                line.chain()
        if ends:
            line.entry.finish()
        await line.clock.advance(1)
        while line.stages:
            line.stages.pop(0).remove()
            line.chain()
        assert line.bytes == sent
        assert (line.ends, line.held) == (int(ends), 0)

    asyncio.run(play())


@pytest.mark.parametrize("kind", KINDS)
async def test_a_connection_that_is_gone_leaves_no_timer(kind: str) -> None:
    """Nothing happens afterwards."""
    attributes = {"slicer": {"average_size": 1, "delay": 1000}, "bandwidth": {"rate": 1}, "latency": {"latency": 9}}
    line = Line(
        told(kind, **attributes.get(kind, {next(iter(KINDS[kind].model_fields), ""): 50} if kind != "noop" else {}))
    )
    line.entry.feed(b"abc")
    line.entry.finish()
    before = (len(line.arrived), line.ends, line.was_reset)
    for stage in line.stages:
        stage.drop()
    await line.clock.advance(3600)
    assert (len(line.arrived), line.ends, line.was_reset) == before


def test_every_kind_has_a_stage() -> None:
    for kind in KINDS:
        attributes = {"average_size": 1} if kind == "slicer" else {}
        assert isinstance(make_stage(Line(), Bites(), told(kind, **attributes)), Stage)
