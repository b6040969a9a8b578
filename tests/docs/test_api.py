"""docs/api.md tells of every public name, as the code has it now, with examples that are accepted."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.docs.api_reference import PAGE, public_members, render, shown, signature
from tests.docs.pages import BrokenPage, run_page
from tests.docs.reference import tables

import squall
from squall import EventPublisher, EventRouter, EventSubscriber, Query, RoutingRule, VirtualClock
from squall.plugins.retry import RetryPlugin

KERNELS_OWN = {"EventRouter.intake", "EventRouter.subscriptions", "EventRouter.on_loop_thread", "EventRouter.ask"}
"""Members that squall's own modules call, and nobody needs to."""


def text() -> str:
    return PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", [EventRouter, EventPublisher, EventSubscriber, squall.Delivery])
def test_every_method_is_shown(kind: type) -> None:
    """One that is new is missed until its signature stands in the page."""
    members = {f"{kind.__name__}.{name}" for name in public_members(kind)}
    assert members - shown(text()) - KERNELS_OWN == set()


def test_every_public_name_is_told_of() -> None:
    """In the order in which they are exported, each with a place that says more."""
    (names,) = [written for name, _, written in tables(text()) if name == "public names"]
    assert [name.strip("`") for name in names] == squall.__all__
    assert all(re.fullmatch(r"\[.+\]\(.*#[\w-]+\)", row["more"]) for row in names.values())


def examples(function: str) -> Iterator[tuple[str, Any]]:
    """Each argument of a table with the value of its example."""
    scope = vars(squall) | {name: getattr(squall, name) for name in squall.__all__}
    scope |= {"RetryPlugin": RetryPlugin, "logging": logging, "on_order": on_order}
    for name, _, written in tables(text()):
        if name == f"arguments of {function}":
            yield from (
                (argument.strip("`"), eval(row["example"].strip("`"), scope)) for argument, row in written.items()
            )


async def on_order(event: squall.Event) -> None:
    """The handler of the examples."""


async def test_each_example_of_an_argument_is_accepted() -> None:
    """Alone, and with what is required."""
    for name, value in examples("EventRouter.__init__"):
        EventRouter(**{name: value})
    async with EventRouter(clock=VirtualClock()) as router:
        shop, billing = router.publisher("shop"), router.subscriber("billing")
        for name, value in examples("EventPublisher.publish"):
            await shop.publish(**{"event_type": "a", "payload": b"", name: value})
        for name, value in examples("EventSubscriber.subscribe"):
            own = await billing.subscribe(**{"pattern": ">", "handler": on_order, name: value})
            await billing.unsubscribe(own)
        for name, value in examples("Query"):
            _ = [event async for event in router.replay(Query(**{name: value}))]
        for name, value in examples("RoutingRule"):
            RoutingRule(**{"pattern": ">", "drop": True, name: value})


@pytest.mark.parametrize(
    "name", ["EventRouter.__init__", "EventPublisher.publish", "EventSubscriber.subscribe", "Query"]
)
def test_there_are_examples(name: str) -> None:
    """So that none of the above is true of nothing."""
    assert len([*examples(name)]) > 4


def test_drift_is_noticed(tmp_path: Path) -> None:
    """A default, a word or a method that the code has no more differs from the page, and breaks it."""
    for old, new in (("concurrency: int = 1,", "concurrency: int = 2,"), ("Give it up:", "Keep it:")):
        drifted = text().replace(old, new, 1)
        assert drifted != text()
        assert render(drifted) == text()
    with pytest.raises(KeyError, match="pbulish"):
        signature("EventPublisher.pbulish")
    page = tmp_path / "page.md"
    page.write_text("<!-- signature: Retry -->\n```python\nclass Retry: ...\n```\n", encoding="utf-8")
    (tmp_path / "clone").mkdir()
    with pytest.raises(BrokenPage, match=r"page.md:2: out of date: run `make docs`"):
        run_page(page, tmp_path / "clone")


def test_what_a_thing_does_is_left_out() -> None:
    """A signature ends with its docstring; where there is none, in dots. What is private stays so."""
    stub = signature("Retry, RoutingRule")
    assert "def __init__(self, delay_s: float | None = None) -> None: ..." in stub
    assert "super()" not in stub
    assert "__post_init__" not in stub
    assert "    count: int = 0\n" in stub
