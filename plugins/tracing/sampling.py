"""Head sampling: whether an event is traced, by its id alone, before anything is made for it."""

from __future__ import annotations

from squall.plugins.tracing.context import trace_of

ALWAYS = "\U0010ffff"
_ENDINGS = 4096


class Sampler:
    """Takes a share of all ids. Every process takes the same ones, and whoever takes less takes some of those.

    It compares an id's last three digits, its twelve last bits: squall's ids go through all endings in turn, in an
    order that chance has given, so that even of a few thousand events the share is exact. At most 1 in 4,096 ids has
    the ending on which more bits must be asked. `last` is that ending: where an id's is greater, it is not taken.
    """

    def __init__(self, share: float) -> None:
        whole = int(share * _ENDINGS)
        self.last = ALWAYS if share >= 1 else f"{whole:03x}"
        self._rest = share * _ENDINGS - whole

    def takes(self, event_id: str) -> bool:
        """Whether the event of this id is traced."""
        ending = event_id[-3:]
        return ending < self.last or (ending == self.last and int(trace_of(event_id)[:8], 16) < self._rest * (1 << 32))
