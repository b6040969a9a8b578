"""squall_deliver_middleware: layers around one subscription's handler."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import pytest
from tests.core.world import FromAnswers, Heard, Policy, World

from squall import Context, Event, Plugin, Subscription, WiringError, around, guard, hookimpl
from squall.core.middleware import DELIVER_STAGES, Middleware, Next, Stage

Answer = Middleware | Sequence[Middleware] | None


class Layers(Plugin):
    """Gives each subscription what a function says."""

    def __init__(self, answer: Callable[[Subscription], Answer]) -> None:
        super().__init__()
        self.answer = answer

    @hookimpl
    def squall_deliver_middleware(self, ctx: Context, subscription: Subscription) -> Answer:
        return self.answer(subscription)


def note(notes: list[str], name: str, stage: Stage, as_around: bool = True) -> Middleware:
    """A layer that writes its name down, and where it is an around, the end too."""

    def see(event: Event) -> None:
        notes.append(name)

    async def pass_on(event: Event, following: Next) -> None:
        see(event)
        await following(event)
        notes.append(f"{name} ended")

    return around(pass_on, stage=stage) if as_around else guard(see, stage=stage)


@pytest.mark.parametrize("shapes", [(False,) * 4, (True,) * 4, (True, False, False, True)])
@pytest.mark.parametrize("stages", list(itertools.permutations(DELIVER_STAGES))[::5])
@pytest.mark.parametrize("delivery", ["at-least-once", "at-most-once"])
async def test_layers_run_by_stage_whatever_the_plugins_order(
    delivery: str, stages: tuple[Stage, ...], shapes: tuple[bool, ...]
) -> None:
    """observe < dedupe < fault < handler, then the handler."""
    notes: list[str] = []

    async def handle(event: Event) -> None:
        notes.append("called")

    layers = [note(notes, stage, stage, shape) for stage, shape in zip(stages, shapes, strict=True)]
    plugins = [Layers(lambda _, layer=layer: layer) for layer in layers]  # type: ignore[misc]
    async with World(*plugins) as world:
        await world.subscriber.subscribe(">", handle, delivery=delivery)  # type: ignore[arg-type]
        await world.publish("a")
        await world.clock.settle()
        assert [one for one in notes if "ended" not in one] == [*DELIVER_STAGES, "called"]


async def test_within_a_stage_the_configurations_order_counts() -> None:
    """The first of the configuration is the outermost."""
    notes: list[str] = []
    plugins = [Layers(lambda _, name=name: note(notes, name, "observe")) for name in "12"]  # type: ignore[misc]
    async with World(*plugins) as world:
        await world.subscriber.subscribe(">", Heard())
        await world.publish("a")
        await world.clock.settle()
        assert notes == ["1", "2", "2 ended", "1 ended"]


async def test_each_subscription_has_layers_of_its_own() -> None:
    """The plugin is shown the subscription, and may have nothing for it."""
    notes: list[str] = []
    plugin = Layers(lambda one: note(notes, one.pattern, "observe", False) if one.pattern != "b" else None)
    async with World(plugin) as world:
        for pattern in "ab":
            await world.subscriber.subscribe(pattern, Heard())
        await world.publish("a", "b")
        await world.clock.settle()
        assert notes == ["a"]


@pytest.mark.parametrize("as_around", [False, True])
async def test_a_layer_that_raises_has_failed_the_attempt(as_around: bool) -> None:
    """As if the handler had: the policy decides, and the handler is not called."""
    failures = [ValueError("not today")]

    def fail(event: Event) -> None:
        if failures:
            raise failures.pop()

    async def fail_too(event: Event, following: Next) -> None:
        fail(event)
        await following(event)

    heard = Heard()
    layer = around(fail_too, stage="fault") if as_around else guard(fail, stage="fault")
    async with World(Policy(), Layers(lambda _: layer)) as world:
        await world.subscriber.subscribe(">", heard)
        await world.publish("a")
        await world.clock.settle()
        assert heard.types == []
        await world.clock.advance(1)
        assert heard.types == ["a"]


async def test_a_layer_that_does_not_go_on_has_handled_the_event() -> None:
    """So a dedupe layer acknowledges what was handled before."""
    heard, seen = Heard(), set[str]()

    async def once(event: Event, following: Next) -> None:
        if event.correlation_id not in seen:
            seen.add(event.correlation_id)
            await following(event)

    async with World(Layers(lambda _: around(once, stage="dedupe"))) as world:
        await world.subscriber.subscribe(">", heard)
        for _ in range(2):
            await world.publisher.publish("a", b"", correlation_id="same")
        await world.clock.settle()
        assert len(heard.events) == 1
        assert world.router.get_metrics().delivered == 2


async def test_an_around_sees_how_the_handler_ended() -> None:
    """And may change it."""
    seen: list[str] = []

    async def forgive(event: Event, following: Next) -> None:
        try:
            await following(event)
        except ValueError as error:
            seen.append(str(error))

    async with World(Layers(lambda _: around(forgive, stage="handler"))) as world:
        await world.subscriber.subscribe(">", FromAnswers(ValueError("broken")))
        await world.publish("a")
        await world.clock.settle()
        assert seen == ["broken"]
        assert await world.reasons() == []


async def test_a_stage_of_publishes_is_refused_at_subscribe() -> None:
    """With the stages that there are; nothing is subscribed."""
    async with World(Layers(lambda _: guard(lambda event: None, stage="limit"))) as world:
        with pytest.raises(WiringError, match=r"deliver middleware: expected .* observe, dedupe, fault, handler"):
            await world.subscriber.subscribe(">", Heard())
        assert world.router.get_metrics().subscriptions == 0
