"""Folders of spans to look at: what a router's tracing plugin has written, and files made by hand."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow.parquet as pq
from tests.chaos.report.test_report import HOSTILE
from tests.core.world import Heard, KeptMemory, until
from tests.plugins.tracing.test_publishing import FailsFirst, tracing
from tests.plugins.tracing.test_tail import Failing
from tests.plugins.tracing.traced import MANY_TURNS

from squall import Event, EventRouter
from squall.plugins.retry import RetryPlugin
from squall.plugins.tracing.columns import table
from squall.plugins.tracing.spans import Operation, Span

ORDER = "6f098ad8-fcd7-43f9-8b1c-dea496a4e578"
TRACE = ORDER.replace("-", "")
"""The trace of that order."""
MS = 1_000_000
NOW_NS = 1_795_000_000_000_000_000


def service_spans(folder: Path) -> Path:
    """The spans of a router that has stopped: an order that the store takes at the second try; billing publishes a
    bill, which ledger gives up after two attempts, and takes after its redrive; then its history is read."""
    asyncio.run(_serve(folder))
    return folder


async def _serve(folder: Path) -> None:
    kept = KeptMemory(FailsFirst)
    retry = RetryPlugin(attempts=2, base=0.001, cap=0.001, publish_deadline=60.0)
    async with EventRouter([kept, tracing(folder), retry]) as router:
        failing, audit = Failing(2, lambda: ValueError(f"no ledger {HOSTILE}")), Heard()
        publish = router.publisher("billing").publish

        async def bill(event: Event) -> None:
            await publish("bill.made", b"")

        await router.subscriber("billing").subscribe("order.>", bill)
        await router.subscriber("audit").subscribe(">", audit)
        await router.subscriber("ledger").subscribe("bill.>", failing, name="ledger")
        kept.store.left = 1
        await router.publisher("shop").publish("order.created", b"", key="k-1", event_id=ORDER)
        async with asyncio.timeout(30):
            while not (plan := await router.plan_redrive()).letters:  # noqa: ASYNC110  the store settles soon
                await asyncio.sleep(0.005)
        await router.redrive(plan.token, origin="ops")
        await until(lambda: failing.calls == 3 and len(audit.events) == 2, MANY_TURNS)
        assert len([event async for event in router.replay()]) == 2


def span(
    trace: str,
    name: str,
    parent: str | None = None,
    operation: Operation = "publish",
    topic: str = "order.created",
    at_ms: int = 0,
    **more: object,
) -> Span:
    """One span of a millisecond."""
    begun_ns = at_ms * MS
    times = (begun_ns, begun_ns + MS, NOW_NS + begun_ns)
    return Span(trace, name, parent, operation, topic, *times, **more)  # type: ignore[arg-type]  # as the test says


def write(folder: Path, number: int, *spans: Span) -> Path:
    """A file of these spans, as the plugin writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"spans-{number:06d}.parquet"
    pq.write_table(table(spans), path)
    return path
