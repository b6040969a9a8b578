"""What the router holds, for operators and for who tests it: subscriptions, sums, dead letters and their redrive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from squall.core.errors import ConfigError, SubscriptionError
from squall.core.redrive import DeadLetterQuery, wanted_by
from squall.core.router import EventRouter
from squall.core.store import DeadReason
from squall.plugins.serve.errors import BadRequest
from squall.plugins.serve.letters import Letter, Page, Plan, Redrive, Redriven, WholeLetter
from squall.plugins.serve.openapi import MAX_DIGITS, WHOLE_NUMBER

MAX_PAGE = 500
MAX_PAGE_BYTES = 8_000_000


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
        "max_events": router.store.capabilities.max_events,
        "dead_letters": counts.dead_letters,
        "next_seq": router.store.next_seq,
        "subscriptions": listed,
    }


async def dead_letters(router: EventRouter, asked: Mapping[str, str]) -> Page:
    """Dead letters in the order of their arrival, from the after-th on, also those that were given back: as many as are
    asked for, and no more payloads than are sent at once. Raises BadRequest, and as the store does."""
    query, after = _query(asked)
    wanted = wanted_by(query)
    found: list[WholeLetter] = []
    size_bytes = 0
    while page := await router.store.dead_letters(query.subscription, after, MAX_PAGE):
        for letter in page:
            if wanted(letter):
                size_bytes += len(letter.event.payload)
                if found and (len(found) == query.limit or size_bytes > MAX_PAGE_BYTES):
                    return Page(found, after)
                found.append(WholeLetter.whole(letter))
            after += 1
    return Page(found)


def _query(asked: Mapping[str, str]) -> tuple[DeadLetterQuery, int]:
    seqs = (_whole(asked, "seq", 1, 1),) if "seq" in asked else None
    limit, after = _whole(asked, "limit", MAX_PAGE, 1), _whole(asked, "after", 0, 0)
    try:
        reason = cast("DeadReason | None", asked.get("reason"))
        return DeadLetterQuery(asked.get("subscription"), reason, asked.get("pattern"), seqs, limit), after
    except (ConfigError, SubscriptionError) as error:
        raise BadRequest(f"dead letters: {error}") from error


def _whole(asked: Mapping[str, str], name: str, default: int, least: int) -> int:
    text = asked.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS and int(text) >= least):
        raise BadRequest(f"{name}: expected {WHOLE_NUMBER}, {least} or more, got {text!r:.40}")
    return int(text)


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
