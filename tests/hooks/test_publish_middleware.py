"""squall_publish_middleware: layers that each event passes before it is routed and stored."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Sequence

import pytest
from tests.core.world import Heard, World

from squall import (
    Context,
    Event,
    EventData,
    Overflow,
    Plugin,
    Priority,
    PublishError,
    Refused,
    WiringError,
    around,
    guard,
    hookimpl,
)
from squall.core.middleware import PUBLISH_STAGES, Middleware, Next, Stage


class Layers(Plugin):
    """Gives what it is told to give."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    @hookimpl
    def squall_publish_middleware(self, ctx: Context) -> Middleware | Sequence[Middleware] | None:
        return self.answer  # type: ignore[return-value]


def note(notes: list[str], name: str, stage: Stage, as_around: bool) -> Middleware:
    """A layer that writes its name down."""

    def see(event: Event) -> None:
        notes.append(name)

    async def pass_on(event: Event, following: Next) -> None:
        see(event)
        await following(event)

    return around(pass_on, stage=stage) if as_around else guard(see, stage=stage)


@pytest.mark.parametrize("shapes", [(False,) * 4, (True,) * 4, (True, False, False, True), (False, True, False, False)])
@pytest.mark.parametrize("stages", list(itertools.permutations(PUBLISH_STAGES))[::5])
async def test_layers_run_by_stage_whatever_the_plugins_order(
    stages: tuple[Stage, ...], shapes: tuple[bool, ...]
) -> None:
    """observe < validate < limit < fault, guards and arounds mixed, for one event and for a batch."""
    notes: list[str] = []
    plugins = [Layers(note(notes, stage, stage, shape)) for stage, shape in zip(stages, shapes, strict=True)]
    async with World(*plugins) as world:
        await world.publish("a")
        assert notes == [*PUBLISH_STAGES]
        notes.clear()
        await world.publisher.publish_batch([EventData("a", b"")])
        assert notes == [*PUBLISH_STAGES]


@pytest.mark.parametrize("as_around", [False, True])
async def test_within_a_stage_the_configurations_order_counts(as_around: bool) -> None:
    """Of plugins, and of the layers that one plugin gives."""
    notes: list[str] = []
    first = [note(notes, name, "limit", as_around) for name in ("1", "2")]
    async with World(Layers(first), Layers(None), Layers(note(notes, "3", "limit", as_around))) as world:
        await world.publish("a")
        assert notes == ["1", "2", "3"]


async def test_a_layer_may_add_metadata_before_the_event_is_stored() -> None:
    """Its subscribers see it; other events do not."""
    heard = Heard()

    def stamp(event: Event) -> None:
        event.metadata["tenant"] = event.source

    async with World(Layers(guard(stamp))) as world:
        await world.subscriber.subscribe(">", heard)
        shared = {"a": 1}
        await world.publisher.publish("a", b"", metadata=shared)
        await world.clock.settle()
        assert heard.events[0].metadata == {"a": 1, "tenant": "shop"}
        assert shared == {"a": 1}


async def test_an_around_may_wait_and_sees_the_end() -> None:
    """What it awaits is the whole rest of the way, the store included."""
    door, seen = asyncio.Event(), list[str]()

    async def wait(event: Event, following: Next) -> None:
        await door.wait()
        await following(event)
        seen.append(f"stored as {event.seq}")

    async with World(Layers(around(wait))) as world:
        publishing = world.publishing("a")
        await world.clock.settle()
        assert not publishing.done()
        door.set()
        await publishing
        assert seen == ["stored as 1"]


async def test_one_refused_event_refuses_its_batch() -> None:
    """Nothing of it is stored, whichever shape said no."""

    def refuse(event: Event) -> None:
        if event.type == "bad":
            raise Refused("not you")

    async def refuse_too(event: Event, following: Next) -> None:
        refuse(event)
        await following(event)

    for layer in (guard(refuse), around(refuse_too)):
        async with World(Layers(layer)) as world:
            with pytest.raises(Refused, match="not you"):
                await world.publisher.publish_batch([EventData(one, b"") for one in ("a", "bad", "b")])
            assert (await world.router.store.counts()).events == 0


@pytest.mark.parametrize("answer", [lambda event: None, guard(lambda event: None, stage="dedupe"), "layer", [7]])
async def test_what_is_no_layer_of_this_way_stops_the_start(answer: object) -> None:
    """A bare function, a stage of deliveries, anything else: with what is expected."""
    world = World(Layers(answer))
    with pytest.raises(
        WiringError, match=r"publish middleware: expected squall\.guard.* observe, validate, limit, fault"
    ):
        await world.router.start()


def test_an_async_guard_is_refused_at_once() -> None:
    """It would never be awaited: a validator that refuses nothing."""

    async def refuse(event: Event) -> None:
        raise Refused("no")

    with pytest.raises(WiringError, match=r"guard: expected a plain function, got the async .* use squall.around"):
        guard(refuse)  # type: ignore[arg-type]


class Calls:
    """An object that is called like a function, and is async."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def __call__(self, event: Event, following: Next) -> None:
        self.seen.append(event.type)
        await following(event)


async def test_an_object_with_an_async_call_is_an_around_and_no_guard() -> None:
    """It works where async is meant."""
    calls = Calls()
    with pytest.raises(WiringError, match=r"guard: expected a plain function, got the async .* use squall\.around"):
        guard(calls)  # type: ignore[arg-type]
    async with World(Layers(around(calls))) as world:
        await world.publish("a")
    assert calls.seen == ["a"]


@pytest.mark.parametrize("plain", [lambda event, following: None, len, "refuse", None])
def test_a_plain_around_is_refused_at_once(plain: object) -> None:
    """What it returns would be awaited: each publish would fail."""
    with pytest.raises(WiringError, match=r"around: expected an async function, got .* use squall\.guard"):
        around(plain)  # type: ignore[arg-type]


async def twice(event: Event, following: Next) -> None:
    """Goes on twice, one after the other."""
    await following(event)
    await following(event)


async def at_once(event: Event, following: Next) -> None:
    """Goes on twice at the same time."""
    await asyncio.gather(following(event), following(event))


async def quietly(event: Event, following: Next) -> None:
    """Goes on twice, and says nothing of it."""
    await following(event)
    with contextlib.suppress(PublishError):
        await following(event)


async def test_an_around_goes_on_once() -> None:
    """Else the event would be stored twice under one id. The error names the plugin, and the outcome is unknown to who
    hears of it: it went on once."""
    for layer, fails in ((twice, True), (at_once, True), (quietly, False)):
        heard = Heard()
        async with World(Layers(None), Layers(around(layer)), Layers(around(Calls()))) as world:
            await world.subscriber.subscribe(">", heard)
            told = r"plugin Layers#3: its publish middleware called next twice for event .* \(a\)"
            with pytest.raises(PublishError, match=told) if fails else contextlib.nullcontext() as caught:
                await world.publish("a")
            assert caught is None or caught.value.outcome == "info"
            await world.clock.settle()
            assert heard.types == ["a"]
            assert (await world.router.store.counts()).events == 1


async def test_an_around_of_a_batch_goes_on_once() -> None:
    async with World(Layers(around(twice))) as world:
        with pytest.raises(PublishError, match=r"plugin Layers#2: .* called next twice"):
            await world.publisher.publish_batch([EventData("a", b""), EventData("b", b"")])
        assert (await world.router.store.counts()).events == 0


async def test_an_around_may_go_on_again_where_that_failed() -> None:
    """As a retry does."""
    failures = [Overflow("full"), Overflow("full")]

    async def retry(event: Event, following: Next) -> None:
        while True:
            try:
                return await following(event)
            except Overflow:
                pass

    async def fail(event: Event, following: Next) -> None:
        if failures:
            raise failures.pop()
        await following(event)

    async with World(Layers([around(retry), around(fail)])) as world:
        await world.publish("a")
        assert (await world.router.store.counts()).events == 1


async def test_what_is_raised_after_the_event_went_on_is_not_told_as_a_failure() -> None:
    """It is stored."""

    async def late(event: Event, following: Next) -> None:
        await following(event)
        raise ValueError("too late")

    async with World(Layers(around(late))) as world:
        with pytest.raises(PublishError, match="publish middleware raised ValueError: too late") as caught:
            await world.publish("a")
        assert caught.value.outcome == "info"
        assert (await world.router.store.counts()).events == 1
        assert world.router.get_metrics().refused == 0


@pytest.mark.parametrize("as_around", [False, True])
@pytest.mark.parametrize(("name", "value"), [("type", "audit.a"), ("type", 7), ("priority", "HIGH"), ("priority", 1)])
async def test_a_layer_changes_neither_type_nor_priority(as_around: bool, name: str, value: object) -> None:
    """Those are for routing rules: what is asked of it names the plugin, and nothing is stored."""

    def change(event: Event) -> None:
        setattr(event, name, Priority(value) if value == 1 else value)

    async def change_too(event: Event, following: Next) -> None:
        change(event)
        await following(event)

    async with World(Layers(None), Layers(around(change_too) if as_around else guard(change))) as world:
        told = rf"plugin Layers#3: its publish middleware made .*{value}.* of an event of .*squall\.RoutingRule"
        with pytest.raises(Refused, match=told):
            await world.publish("a", priority=Priority.LOW)
        with pytest.raises(Refused, match=told):
            await world.publisher.publish_batch([EventData("a", b"", Priority.LOW)])
        assert (await world.router.store.counts()).events == 0
        assert world.router.get_metrics().refused == 2
