"""Event identities: UUID v4 as text, from the system's entropy, or from a seed where time is virtual."""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random
from uuid import UUID

from uuid_utils import uuid4

NewId = Callable[[], str]


def system_id() -> str:
    """A fresh UUID v4; processes that share a seed must not make the same ones."""
    return str(uuid4())


def fresh_seed() -> int:
    """A seed where none was given."""
    return int.from_bytes(os.urandom(8), "big")


def seeded_ids(random: Random) -> NewId:
    """UUIDs that repeat with the seed, for runs in virtual time."""
    return lambda: str(UUID(int=random.getrandbits(128), version=4))
