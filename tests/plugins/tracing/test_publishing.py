"""What a trace says of a publish: as its publisher was told, however often the store was asked."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.core.world import Heard, KeptMemory, StoreWrapper, until
from tests.plugins.tracing.traced import MANY_TURNS, of, rows, traced
from tests.servers import Server

from squall import Event, EventData, EventRouter, StoreError
from squall.plugins.redis import RedisPlugin
from squall.plugins.retry import RetryPlugin
from squall.plugins.tracing import TracingPlugin
from squall.plugins.tracing.options import TracingOptions

ID, OTHER = "6f098ad8-fcd7-43f9-8b1c-dea496a4e578", "0c0f3f9e-51c5-4a86-8f0b-6c4f4a3bb1f5"


async def test_what_a_store_recognises_is_no_failure_and_nobodys_parent(redis_server: Server, tmp_path: Path) -> None:
    """Of a batch the rest is appended again, without what was there: each publish is one span, and none in itself."""
    async with traced(tmp_path, RedisPlugin(url=redis_server.url)) as router:
        publisher, heard = router.publisher("shop"), Heard()
        await router.subscriber("billing").subscribe("x.>", heard)
        await publisher.publish("x.a", b"", event_id=ID)
        both = [EventData("x.a", b"", event_id=ID), EventData("x.b", b"", event_id=OTHER)]
        assert [one.duplicate for one in await publisher.publish_batch_with_receipts(both)] == [True, False]
        await until(lambda: len(heard.events) == 2, MANY_TURNS)
    spans = rows(tmp_path)
    publishes = of(spans, "publish")
    assert [(one.topic, one.parent, one.error) for one in publishes] == [
        ("x.a", None, None),
        ("x.a", None, None),
        ("x.b", None, None),
    ]
    assert [one.attributes.get("squall.duplicate") for one in publishes] == [None, True, None]
    assert [one.error for one in of(spans, "store")] == [None] * 3
    assert [one.parent for one in of(spans, "process")] == [publishes[0].span, publishes[2].span]


class FailsFirst(StoreWrapper):
    """Refuses appends while `left`."""

    left = 0

    def append(self, events: Sequence[Event]) -> Awaitable[None] | None:
        if self.left:
            self.left -= 1
            raise StoreError("the disk is busy")
        return self.inner.append(events)


def tracing(folder: Path) -> TracingPlugin:
    return TracingPlugin(TracingOptions.of("tracing", {"folder": str(folder), "sample": 1.0, "timeout": 30.0}))


@pytest.mark.parametrize("fails", [1, 3])
async def test_a_publish_that_is_tried_again_is_one_span(fails: int, tmp_path: Path) -> None:
    """With all of its tries in it. It failed if it was told so."""
    kept, heard = KeptMemory(FailsFirst), Heard()
    retry = RetryPlugin(attempts=3, base=0.001, cap=0.001, publish_deadline=60.0)
    async with EventRouter([kept, tracing(tmp_path), retry]) as router:
        await router.subscriber("billing").subscribe("x.>", heard)
        kept.store.left = fails
        publisher = router.publisher("shop")
        if fails == 3:
            with pytest.raises(StoreError):
                await publisher.publish("x.a", b"", event_id=ID)
            await publisher.publish("x.a", b"", event_id=ID)
        else:
            await publisher.publish("x.a", b"")
        await until(lambda: heard.events, MANY_TURNS)
    spans = rows(tmp_path)
    publishes = of(spans, "publish")
    assert [one.error for one in publishes] == ["StoreError"] * (fails == 3) + [None]
    tries = [(one.parent, one.error) for one in of(spans, "store")]
    assert tries == [(publishes[0].span, "StoreError")] * fails + [(publishes[-1].span, None)]
    assert [one.parent for one in of(spans, "process")] == [publishes[-1].span]


async def test_a_store_may_promise_another_durability_while_it_runs(tmp_path: Path) -> None:
    """Receipts say what it promises now, behind the tracer too."""
    kept = KeptMemory(StoreWrapper)
    async with EventRouter([kept, tracing(tmp_path)]) as router:
        publisher = router.publisher("shop")
        kept.store.capabilities = replace(kept.store.capabilities, durability="process")
        assert (await publisher.publish_with_receipt("x.a", b"")).durability == "process"
