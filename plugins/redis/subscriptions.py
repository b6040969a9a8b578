"""Named subscriptions in the server: a hash each, with its definition, its cursors and its attempts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from squall.core.errors import SubscriptionError
from squall.core.store import Attached, AttemptRow, Cursor, DurableSpec, Redrive, Settlement
from squall.plugins.redis import scripts
from squall.plugins.redis.codec import letter_name, pack_letter
from squall.plugins.redis.keys import Keys
from squall.plugins.redis.server import Link

_json = msgspec.json.encode


class _Attempt(NamedTuple):
    """An attempt row as it is stored; what an older squall wrote has no first time."""

    attempts: int
    due_ns: int
    error: str
    first_ns: int = 0


async def attach(link: Link, keys: Keys, spec: DurableSpec) -> Attached:
    """Make or find the subscription of this name. Raises SubscriptionError, and as Link.run."""
    subscription_id = spec.id
    while True:
        names = (keys.names, keys.subscription(subscription_id), keys.head, *keys.streams)
        arguments = (
            spec.name, subscription_id, spec.subscriber_id, spec.pattern, spec.filters, spec.start, int(spec.update),
        )  # fmt: skip
        answer = await link.run(scripts.ATTACH, names, arguments)
        if answer[0] == b"ok":
            return attached_from(subscription_id, answer[1])
        if answer[0] == b"differs":
            spec.differs(answer[1].decode(), answer[2].decode())
            raise SubscriptionError(f"subscription {spec.name!r}: changed by another router just now; try again")
        subscription_id = answer[1].decode()


async def detach(link: Link, keys: Keys, subscription_id: str) -> None:
    """Forget it. Raises as Link.run."""
    await link.run(scripts.DETACH, (keys.names, keys.subscription(subscription_id)), ())


def settlement_arguments(
    settlements: Sequence[tuple[Settlement, str]],
) -> tuple[list[str], list[str | bytes | int]]:
    """What the commit script is given of them: the ids whose hashes it needs, in order, and for each settlement the
    number of its hash (0: none), who we are to it, fields to set, fields to delete, and dead letters with what tells
    them apart; each list after its length."""
    ids: list[str] = []
    given: list[str | bytes | int] = []
    for one, token in settlements:
        fields, cleared = _fields(one) if one.durable else [], one.cleared if one.durable else []
        dead: list[str | bytes] = []
        for letter in one.dead:
            dead += (letter_name(letter.subscription_id, letter.event.seq), pack_letter(letter))
        if one.durable:
            ids.append(one.subscription_id)
        given += (len(ids) if one.durable else 0, token, len(fields), *fields)
        given += (len(cleared), *(f"attempt:{seq}" for seq in cleared), len(dead), *dead)
    return ids, given


def _fields(settlement: Settlement) -> list[str | bytes]:
    fields: list[str | bytes] = []
    for cursor in settlement.cursors:
        distances = [cursor.high - seq for seq in cursor.open_seqs]
        fields += (f"cursor:{int(cursor.priority)}", _json((cursor.high, distances)))
    for nak in settlement.naks:
        error = nak.error.encode(errors="backslashreplace").decode()  # better altered than never stored
        fields += (f"attempt:{nak.seq}", _json((nak.attempts, nak.due_ns, error, nak.first_ns)))
    return fields


def redrive_arguments(
    keys: Keys, wanted: Sequence[Redrive], asked: str, token: Callable[[str], str]
) -> tuple[list[str], list[str | bytes]]:
    """The keys and arguments of the redrive script. `asked` is the name of this call, `token` who we are to a
    subscription."""
    names, given = [keys.dead, keys.died, keys.redriven, keys.given_back], list[str | bytes]()
    for one in wanted:
        names += (keys.lease(one.subscription_id), keys.subscription(one.subscription_id))
        given += (letter_name(one.subscription_id, one.seq), str(one.redrives), f"{one.now_ns}:{asked}")
        owed = (f"attempt:{one.seq}", _json((0, one.due_ns, "", 0))) if one.durable else ("", "")
        given += (token(one.subscription_id), *owed)
    return names, given


def attached_from(subscription_id: str, flat: Sequence[bytes]) -> Attached:
    """The subscription whose hash has these names and values, one after the other."""
    stored = {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
    cursors, attempts = [], []
    for name, value in stored.items():
        what, _, number = name.partition(":")
        if what == "cursor":
            high, distances = msgspec.json.decode(value, type=tuple[int, list[int]])
            cursors.append(Cursor(int(number), high, tuple(high - distance for distance in distances)))
        elif what == "attempt":
            attempts.append(AttemptRow(int(number), *msgspec.json.decode(value, type=_Attempt)))
    return Attached(subscription_id, int(stored["from"]), sorted(cursors), sorted(attempts))
