"""Known secrets stay out of what is stored of errors."""

from __future__ import annotations

import logging

import pytest
from pydantic import SecretStr
from tests.core.world import Heard, KeptMemory, Policy, World

from squall import Event, Nak, Plugin, Reject, Term
from squall.core.options import Options as BaseOptions
from squall.core.progress import MAX_ERROR_CHARACTERS
from squall.core.scrub import known_secrets, scrubber

LONG = "x" * (MAX_ERROR_CHARACTERS - 4)


@pytest.mark.parametrize(
    ("environ", "secret"),
    [
        ({"DB_PASSWORD": "s3cr3t-1"}, "s3cr3t-1"),
        ({"stripe_api_key": "sk_live_1"}, "sk_live_1"),
        ({"GITHUB_TOKEN": "ghp_abc"}, "ghp_abc"),
        ({"DATABASE_URL": "postgres://shop:pass-word@db/shop"}, "pass-word"),
    ],
)
def test_the_environment_says_what_is_secret(environ: dict[str, str], secret: str) -> None:
    """By its names, and by passwords in its URLs."""
    assert scrubber(known_secrets(environ, ()))(f"refused: {secret}!") == "refused: ***!"


def test_what_is_no_secret_stays() -> None:
    """Words that only contain one of the names, values too short to be told from words, a URL without a password."""
    environ = {"TOKENIZERS_PARALLELISM": "false-ish", "USE_KEY": "yes", "MONKEY": "banana", "HOME": "/home/shop"}
    text = "false-ish yes banana /home/shop http://shop:80/a@b redis://shop@host"
    assert scrubber(known_secrets(environ, ()))(text) == text


def test_a_password_in_a_url_is_hidden_though_nobody_knows_it() -> None:
    """The rest of the URL stays, so that one can see what could not be reached."""
    assert scrubber(())("no route to amqp://shop:hunter2@mq/orders") == "no route to amqp://shop:***@mq/orders"


def test_the_longer_of_two_secrets_is_hidden_whole() -> None:
    """Where one begins like another."""
    assert scrubber(["secret", "secret-and-more"])("secret-and-more") == "***"


class Signing(Plugin):
    """A plugin with a secret of its own."""

    class Options(BaseOptions):
        phrase: SecretStr


async def test_dead_letters_hold_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the message nor the trace; of a plugin's secret option neither. One that would be cut in two is hidden
    before the cut."""
    monkeypatch.setenv("SHOP_PASSWORD", "open-sesame")

    async def handle(event: Event) -> None:
        raise ValueError(LONG + "open-sesame")

    async def sign(event: Event) -> None:
        raise Reject("open-sesame is wrong") from RuntimeError("signed: abracadabra")

    async with World(Signing(phrase="abracadabra")) as world:
        await world.subscriber.subscribe("a", handle)
        await world.subscriber.subscribe("b", sign)
        await world.publish("a", "b")
        await world.clock.settle()
        one, two = await world.dead()
    assert one.error == LONG + "***"
    assert one.trace.endswith("x***\n")
    assert two.error == "*** is wrong"
    assert "signed: ***" in two.trace
    assert "abracadabra" not in two.trace.replace('"signed: abracadabra"', "its line in the source")


async def test_what_is_kept_of_a_retry_holds_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of an attempt that is made again is stored too."""
    monkeypatch.setenv("SHOP_PASSWORD", "open-sesame")
    kept = KeptMemory()
    async with World(Policy(lambda delivery, error: Nak(9.0)), store=kept) as world:
        await world.subscriber.subscribe(">", Heard(ValueError("open-sesame")), name="billing")
        await world.publish("a")
        await world.clock.advance(0.1)
    assert kept.memory is not None
    (durable,) = kept.memory._durable.values()
    assert [row.error for row in durable.attempts.values()] == ["ValueError: ***"]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [({"traceparent": "00-4bf9-00f0-01"}, "00-4bf9-00f0-01"), ({}, None), ({"traceparent": 1}, None)],
)
async def test_a_dead_letter_knows_its_trace(metadata: dict[str, object], expected: str | None) -> None:
    """The trace context that was published with the event, if any; and that it was never given back."""
    async with World(Policy(lambda delivery, error: Term("delivery_limit"))) as world:
        await world.subscriber.subscribe(">", Heard(ValueError("broken")))
        await world.publisher.publish("a", b"", metadata=metadata)
        await world.clock.settle()
        (letter,) = await world.dead()
        assert (letter.traceparent, letter.redrives) == (expected, 0)
        assert world.log.at_least(logging.ERROR) == []
