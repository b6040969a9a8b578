"""What a run knows of itself besides its history: its phases, its load, what went wrong with the bench."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from squall.chaos.whole_file import read_document, write_document
from squall.core.load_driver import Generated
from squall.core.target import Claims

FACTS = "facts.json"


@dataclass(frozen=True)
class Span:
    """From `begun` until before `ended`, monotonic ns."""

    begun: int
    ended: int


@dataclass(frozen=True)
class RunFacts:
    """Facts of one run. Times are monotonic ns; None: the phase was not reached, or there was none.

    `steady_held` None: no steady state was asked for. `drain` ends when nothing is pending (`drained`), or at its
    limit; `stall_s` is how long a target that is up and healed may make no progress. `asked` and `achieved` count
    publishes of the load; `rate` is the greatest that it asks for, per second, and `rate_variable` the scenario's
    variable that says it, if one does.
    `clock_error_ns` bounds the difference between the clocks of the processes that recorded. `recorder_failures` and
    `reasons` are what else makes the verdict unknown: the recorder's failures, and reasons of the runner's own.
    `starved`: for what share of the load the bench could have run and waited for a processor, where that is known.
    `generated` and `busy_ns`: what a load driver says of itself, and how long its publishes took in all.
    `durability`, `kept_by` and `publish_path` are the target's claim: what an acknowledgement is worth, which server
    keeps it, and the seams before it.
    """

    scenario: str = ""
    seed: int = 0
    steady: Span | None = None
    steady_held: bool | None = None
    load: Span | None = None
    healed_ns: int | None = None
    drain: Span | None = None
    drained: bool | None = None
    stall_s: float = 10.0
    target_up: bool = True
    asked: int = 0
    achieved: int = 0
    rate: float = 0.0
    rate_variable: str = ""
    clock_error_ns: int = 0
    recorder_failures: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    durability: str = ""
    kept_by: str | None = None
    publish_path: tuple[str, ...] | None = None
    generated: Generated | None = None
    busy_ns: int = 0
    starved: float = 0.0

    def claimed(self, claims: Claims) -> RunFacts:
        """With what the target claims."""
        path = claims.publish_path
        return replace(self, durability=claims.durability, kept_by=claims.kept_by, publish_path=path)


_ADAPTER = TypeAdapter(RunFacts)


def save_facts(facts: RunFacts, folder: Path) -> None:
    """Write facts.json into folder. Raises StoreFileError."""
    write_document(folder / FACTS, _ADAPTER, facts)


def load_facts(folder: Path) -> RunFacts:
    """Read facts.json from folder. Raises StoreFileError when it is missing or not what `save_facts` wrote."""
    return read_document(folder / FACTS, _ADAPTER, "what squall wrote")
