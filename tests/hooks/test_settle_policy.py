"""squall_settle_policy: who decides what becomes of a failed delivery."""

from __future__ import annotations

from tests.core.world import Heard, Policy, World

from squall import Context, Nak, Plugin, SettlePolicy, Subscription, Term, hookimpl
from squall.plugins.retry import RetryPlugin


class ForSome(Plugin):
    """Has a policy for one pattern only."""

    @hookimpl
    def squall_settle_policy(self, ctx: Context, subscription: Subscription) -> SettlePolicy | None:
        if subscription.pattern != "a":
            return None
        return Policy(lambda delivery, error: Term("rejected", "by ForSome")).squall_settle_policy(ctx, subscription)


async def test_the_first_policy_in_the_configurations_order_counts() -> None:
    """Others are not asked; one that has nothing for a subscription leaves it to the next."""
    later = Policy(lambda delivery, error: Term("delivery_limit", "by the next"))
    async with World(ForSome(), later) as world:
        for pattern in "ab":
            await world.subscriber.subscribe(pattern, Heard(ValueError("broken")))
        await world.publish("a", "b")
        await world.clock.settle()
        assert sorted((one.event.type, one.error) for one in await world.dead()) == [
            ("a", "by ForSome"),
            ("b", "by the next"),
        ]


async def test_a_policy_is_asked_once_for_each_failure() -> None:
    """With what failed and how; never for a success."""
    asked: list[str] = []

    def decide(delivery: object, error: BaseException) -> Nak | Term:
        asked.append(str(error))
        return Nak(0.0) if len(asked) < 2 else Term()

    async with World(Policy(decide)) as world:
        await world.subscriber.subscribe("a", Heard(ValueError("broken")))
        await world.subscriber.subscribe("a", Heard())
        await world.publish("a")
        await world.clock.advance(1)
        assert asked == ["broken", "broken"]


async def test_the_built_in_policy_enters_by_the_same_hook() -> None:
    """Retry, as a stranger would."""
    heard = Heard(ValueError("broken"))
    async with World(RetryPlugin(attempts=2, base=1)) as world:
        await world.subscriber.subscribe("a", heard)
        await world.publish("a")
        await world.clock.advance(5)
        assert len(heard.events) == 2
        assert await world.reasons() == ["delivery_limit"]
