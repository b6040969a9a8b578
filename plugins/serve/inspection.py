"""What the router holds, for operators and for who tests it: subscriptions, sums, dead letters."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from squall.core.router import EventRouter
from squall.core.store import DeadLetter

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


async def dead_letters(router: EventRouter, after: int) -> dict[str, Any]:
    """A page of dead letters in the order of their arrival, from the after-th on."""
    page = await router.store.dead_letters(after=after, limit=MAX_PAGE)
    return {"dead_letters": [_shown(letter) for letter in page]}


def _shown(letter: DeadLetter) -> dict[str, Any]:
    event = letter.event
    return {
        "id": event.id,
        "seq": event.seq,
        "type": event.type,
        "key": event.key,
        "payload_base64": b64encode(event.payload).decode(),
        "subscription": letter.subscription,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "error_type": letter.error_type,
        "error": letter.error,
    }
