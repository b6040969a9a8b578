"""What the router holds, for operators and for who tests it: subscriptions, sums, dead letters and their redrive."""

from __future__ import annotations

from typing import Any

import msgspec

from squall.core.errors import ConfigError, SubscriptionError
from squall.core.redrive import DeadLetterQuery
from squall.core.router import EventRouter
from squall.plugins.serve.errors import BadRequest
from squall.plugins.serve.letters import Letter, Page, Plan, Redrive, Redriven, WholeLetter

MAX_PAGE = 500


async def status(router: EventRouter) -> dict[str, Any]:
    """The router's sums, and its subscriptions that have a handler just now."""
    counts = await router.store.counts()
    listed = []
    for meter in [router.subscriptions.meter(one) for one in router.subscriptions.dispatchers]:
        subscription, sums = meter.subscription, await meter.read()
        listed.append(
            {
                "id": subscription.id,
                "name": subscription.name,
                "subscriber": subscription.subscriber_id,
                "pattern": subscription.pattern,
                "pending": None if meter.stands_by else sums.pending,
            }
        )
    return {
        "durability": router.durability,
        "events": counts.events,
        "dead_letters": counts.dead_letters,
        "next_seq": router.store.next_seq,
        "subscriptions": listed,
    }


async def dead_letters(router: EventRouter, after: int, subscription: str | None) -> Page:
    """A page of dead letters in the order of their arrival, from the after-th on: of a subscription, by its id or name,
    or of all."""
    return Page([WholeLetter.whole(one) for one in await router.store.dead_letters(subscription, after, MAX_PAGE)])


async def redrive(router: EventRouter, body: bytes, origin: str) -> Plan | Redriven:
    """The dry run of a redrive, or with its token the redrive, for a client at this address. Raises BadRequest, and as
    the router does."""
    try:
        decoder = msgspec.json.Decoder(float_hook=_number)
        asked = msgspec.convert(decoder.decode(body.decode()), Redrive)
        query = DeadLetterQuery(asked.subscription, asked.reason, asked.pattern, asked.seqs, asked.limit)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ConfigError, SubscriptionError) as error:
        raise BadRequest(f"redrive: expected a JSON object that says which dead letters: {error}") from error
    if asked.token is None:
        plan = await router.plan_redrive(query)
        return Plan([Letter.of(one) for one in plan.letters], plan.more, plan.token)
    found = await router.redrive(asked.token, query, per_second=asked.per_second, origin=origin)
    return Redriven([Letter.of(one) for one in found.letters], [Letter.of(one) for one in found.left])


def _number(text: str) -> float:
    """To JSON, 5.0 is a whole number too."""
    value = float(text)
    return int(value) if value.is_integer() else value
