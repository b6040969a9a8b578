"""What the checker says: findings of the invariants, merged into a verdict."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from squall.core.units import format_count

State = Literal["valid", "invalid", "unknown"]
FindingState = Literal["valid", "invalid", "unknown", "not judged"]
LossClass = Literal["prefix", "middle", "postfix"]
ReasonCode = Literal[
    "no_publish",
    "no_delivery",
    "not_steady",
    "fault_never_bit",
    "rate_not_kept",
    "loop_held",
    "heal_failed",
    "recorder_failed",
    "gap",
    "drain_limit",
    "no_keys",
    "soaked_too_little",
    "undecided",
    "checker_failed",
    "runner",
]
"""Why a verdict, or one finding, is unknown. The words are stable: programs may compare them."""
NoteCode = Literal[
    "generated",
    "gate_open",
    "not_acknowledged",
    "nothing_owed",
    "loop_held",
    "stall",
    "process_ended",
    "process_stood",
    "abandoned",
]
"""What a note is about; stable as well."""
OF_FINDINGS: Collection[ReasonCode] = ("no_keys", "soaked_too_little", "undecided", "checker_failed")
"""Of a reason with such a code its invariant's own line tells as well."""

EXIT_CODES: Mapping[State, int] = {"valid": 0, "invalid": 1, "unknown": 3}


@dataclass(frozen=True)
class Reason:
    """Why a verdict is unknown. `advice`: what to do, where it follows from this run and not from the code alone."""

    code: ReasonCode
    text: str
    advice: str = ""


@dataclass(frozen=True)
class Note:
    """What is worth knowing and changes no verdict."""

    code: NoteCode
    text: str


@dataclass(frozen=True)
class Violation:
    """One event (where there is one) that breaks an invariant.

    `subscription` and `key` are names. `witness` is the other event of a pair (out of order after, overlapping with,
    sharing a seq with); `time_ns` is when it showed, monotonic. `form` tells apart the ways to break one invariant.
    """

    invariant: str
    form: str
    event: int | None = None
    subscription: str | None = None
    key: str | None = None
    witness: int | None = None
    time_ns: int | None = None
    loss: LossClass | None = None


@dataclass(frozen=True)
class Cause:
    """Violations of one invariant that have one cause in common.

    `sentence` names the cause; `first` is the earliest violation, `steps` its path for people, `advice` what to do.
    """

    invariant: str
    sentence: str
    count: int
    first: Violation
    steps: tuple[str, ...]
    advice: str


@dataclass(frozen=True)
class Finding:
    """What one invariant came to. `title` is what people read where it says more than `name`: `latency p99`.

    `summary` is one line for people. `figures` are its numbers by name (docs in `invariants.py`). `violations` holds at
    most `CAP` of the `count` violations, earliest first. `why_unknown` says why it could not be decided, or was not
    judged, `code` says it to programs, and `advice` what to do, where that follows from this run.
    """

    name: str
    state: FindingState
    summary: str
    figures: Mapping[str, float] = field(default_factory=dict)
    count: int = 0
    violations: tuple[Violation, ...] = ()
    why_unknown: str = ""
    title: str = ""
    code: ReasonCode | None = None
    advice: str = ""

    @property
    def failed(self) -> bool:
        """Whether the checker itself did."""
        return self.code == "checker_failed"


@dataclass(frozen=True)
class Verdict:
    """The judgement of a run. `records` counts the publishes and attempts that were judged."""

    state: State
    headline: str
    findings: tuple[Finding, ...]
    reasons: tuple[Reason, ...] = ()
    causes: tuple[Cause, ...] = ()
    records: int = 0
    notes: tuple[Note, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 valid, 1 invalid, 3 unknown."""
        return EXIT_CODES[self.state]


CAP = 1000
"""How many violations of one invariant a finding keeps; `count` has them all."""


def counted(count: int, one: str, many: str = "") -> str:
    """`1 event`, `4,711 events`; `many` where it is not `one` with an s."""
    return f"{format_count(count)} {one if count == 1 else many or one + 's'}"


def was(count: int) -> str:
    """The verb that goes with `counted`."""
    return "was" if count == 1 else "were"


def merge(states: Iterable[FindingState]) -> State:
    """invalid > unknown > valid; what is not judged does not count."""
    found = set(states)
    if "invalid" in found:
        return "invalid"
    return "unknown" if "unknown" in found else "valid"
