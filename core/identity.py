"""Event identities: UUID v4 as text, from the system's entropy, or from a seed where time is virtual."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from operator import add
from random import Random, SystemRandom
from uuid import UUID

from uuid_utils import uuid4

NewId = Callable[[], str]
_BLOCK = 4096


def system_id() -> str:
    """A fresh UUID v4; processes that share a seed must not make the same ones."""
    return str(uuid4())


def system_ids() -> NewId:
    """Fresh UUIDs v4, quickly: a random prefix, and after it each of a block of endings, in an order of its own.

    A whole UUID from the system costs five times as much, a generator of these twice. Each maker draws its own prefix
    before its first id, so two of them never make the same; a process that forks must not share one, as it must not
    share a router.
    """
    endings = [f"{number:03x}" for number in range(_BLOCK)]
    SystemRandom().shuffle(endings)

    def block() -> Iterator[str]:
        return map(add, repeat(str(uuid4())[: -len(endings[0])]), endings)

    return chain.from_iterable(iter(block, None)).__next__


def fresh_seed() -> int:
    """A seed where none was given."""
    return int.from_bytes(os.urandom(8), "big")


def seeded_ids(random: Random) -> NewId:
    """UUIDs that repeat with the seed, for runs in virtual time."""
    return lambda: str(UUID(int=random.getrandbits(128), version=4))
