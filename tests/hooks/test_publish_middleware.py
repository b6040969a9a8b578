"""squall_publish_middleware: layers that each event passes before it is routed and stored."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import pytest
from tests.core.world import Heard, World

from squall import Context, Event, EventData, Plugin, Refused, WiringError, around, guard, hookimpl
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
