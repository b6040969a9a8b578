"""From a remote publisher through a server to a remote subscriber, and the settlement back."""

from __future__ import annotations

from tests.core.world import Heard
from tests.plugins.serve.served import Served, until

import squall


async def test_an_event_is_published_delivered_and_settled() -> None:
    """The receipt names what the handler gets, and the server knows that it is done."""
    heard = Heard()
    async with Served() as served, squall.connect(served.server.url) as remote:
        await remote.subscriber("billing").subscribe("order.>", heard, name="billing")
        receipt = await remote.publisher("shop").publish_with_receipt(
            "order.paid", {"total": 5}, squall.Priority.HIGH, "c-1", key="k", metadata={"tenant": "a"}
        )
        await until(lambda: bool(heard.events) and served.pending() == 0)
        (event,) = heard.events
        assert receipt == (event.id, event.seq, "memory", False)
        assert (event.type, event.source, event.data, event.key) == ("order.paid", "shop", {"total": 5}, "k")
        assert (event.priority, event.correlation_id) == (squall.Priority.HIGH, "c-1")
        assert event.metadata == {"tenant": "a", "content-type": "application/json"}
        assert served.router.get_metrics().delivered == 1
