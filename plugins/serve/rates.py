"""How fast each address may publish."""

from __future__ import annotations

MAX_ADDRESSES = 10_000
BURST_S = 1.0


class AddressRates:
    """The generic cell rate algorithm (ITU-T I.371), for each address by itself.

    Whoever is not more than BURST_S ahead of its rate may publish, a batch as a whole: what it is ahead then, it waits
    for. Of more than MAX_ADDRESSES the one that began first is forgotten.
    """

    def __init__(self, per_second: float) -> None:
        self._interval_ns = 1e9 / per_second
        self._paid_until_ns: dict[str, float] = {}

    def wait_s(self, address: str, events: int, now_ns: int) -> float:
        """Take events of an address in: 0. Or else how long it must wait first."""
        paid_ns = max(self._paid_until_ns.get(address, 0.0), now_ns)
        ahead_s = (paid_ns - now_ns) / 1e9 - BURST_S
        if ahead_s > 0:
            return ahead_s
        if address not in self._paid_until_ns and len(self._paid_until_ns) >= MAX_ADDRESSES:
            del self._paid_until_ns[next(iter(self._paid_until_ns))]
        self._paid_until_ns[address] = paid_ns + events * self._interval_ns
        return 0.0
