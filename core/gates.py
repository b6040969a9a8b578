"""Several gates as one: all must permit."""

from __future__ import annotations

from collections.abc import Sequence

from squall.core.delivery import Attempts, Gate, Permits, WaitUntil


class AllGates:
    """Permits as many as the strictest gate does; what others gave in vain is given back."""

    def __init__(self, gates: Sequence[Gate]) -> None:
        self._gates = tuple(gates)

    @property
    def longest_wait_s(self) -> float:
        return sum(gate.longest_wait_s for gate in self._gates)

    def try_acquire(self, n: int) -> Permits | WaitUntil:
        parts: list[Permits] = []
        for gate in self._gates:
            answer = gate.try_acquire(n)
            if isinstance(answer, WaitUntil):
                self._give_back(parts, 0)
                return answer
            parts.append(answer)
            n = min(n, answer.n)
        self._give_back(parts, n)
        return Permits(n, parts=tuple(parts))

    def _give_back(self, parts: Sequence[Permits], keep: int) -> None:
        for gate, part in zip(self._gates, parts, strict=False):
            if part.n > keep:
                gate.release(part, part.n - keep)

    def record(self, permits: Permits, attempts: Attempts) -> None:
        for gate, part in zip(self._gates, permits.parts, strict=True):
            gate.record(part, attempts)

    def release(self, permits: Permits, n: int) -> None:
        for gate, part in zip(self._gates, permits.parts, strict=True):
            gate.release(part, n)
