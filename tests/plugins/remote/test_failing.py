"""A remote handler that fails is told in the log of its own process, and in the server's."""

from __future__ import annotations

import logging

import pytest
from tests.core.world import Heard, Log
from tests.plugins.serve.served import TOKEN, Served, until

import squall
from squall import Reject, Retry


async def test_both_sides_tell_the_first_failure(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client where it was raised, the server what becomes of it; neither tells a secret, nor the second failure."""
    monkeypatch.setenv("OUR_TOKEN", TOKEN)
    log, heard = Log(), Heard(ValueError(f"no, by {TOKEN}"))
    async with (
        Served(token="env:OUR_TOKEN") as served,
        squall.connect(served.server.url, token=TOKEN, logger=log.logger) as remote,
    ):
        await remote.subscriber("billing").subscribe("*", heard, name="invoices")
        for _ in range(3):
            await served.router.publisher("shop").publish("a", b"")
        await until(lambda: served.router.get_metrics().failed >= 3)
        (here,) = log.at_least(logging.WARNING)
        assert "subscription invoices: event " in here
        assert "(a) failed: ValueError: no, by *** (" in here
        assert f"{Heard.__call__.__code__.co_filename}:" in here
        assert "the server decides whether it is delivered again" in here
    (there,) = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert "subscription invoices: event " in there
    assert "(a) failed: ValueError: no, by ***; it is delivered again in " in there


@pytest.mark.parametrize(
    ("error", "delivery", "says"),
    [
        (Reject("no such customer"), "at-least-once", "Reject: no such customer; it is among the dead letters now"),
        (ValueError("no"), "at-most-once", "is lost to this subscription"),
        (Retry(60.0), "at-least-once", None),
    ],
)
async def test_what_becomes_of_it_is_told(error: Exception, delivery: str, says: str | None) -> None:
    log, heard = Log(), Heard(error)
    async with Served() as served, squall.connect(served.server.url, logger=log.logger) as remote:
        await remote.subscriber("billing").subscribe("*", heard, delivery=delivery)  # type: ignore[arg-type]
        await served.router.publisher("shop").publish("a", b"")
        await until(lambda: bool(heard.events))
        await remote.flush()
        told = log.at_least(logging.WARNING)
        assert len(told) == (says is not None)
        assert says is None or says in told[0]
