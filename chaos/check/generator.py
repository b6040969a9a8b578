"""Who published a load for the bench: what it says of itself, and whether it or the target was the limit."""

from __future__ import annotations

from squall.chaos.check.facts import RunFacts
from squall.chaos.check.verdict import counted
from squall.chaos.figures import latency
from squall.core.load_driver import Generated
from squall.core.units import format_count

KEPT_RATE = 0.95
"""A generator that achieves less of the asked rate has not tested what was asked."""
STARVED = 0.2
"""A bench that is given so much less of a processor than it wants says little of how fast anything is."""
BUSY = 0.9
"""A process that uses so much of a processor has none left; users that wait for so much of the time could not send."""


def kept(facts: RunFacts) -> bool:
    """Whether the load was what was asked for."""
    return facts.achieved >= KEPT_RATE * facts.asked


def starved(facts: RunFacts) -> str:
    """Why the load was not kept, where other programs had the processors; nothing where that is not why."""
    if kept(facts) or facts.starved < STARVED:
        return ""
    return f"the machine was busy: {_percent(facts.starved)} of the time the bench waited for a processor"


def told(facts: RunFacts) -> str:
    """What a load driver counted itself, and whether it was at its limit; nothing where the bench itself published."""
    one = facts.generated
    if one is None:
        return ""
    limit = f": {_strained(one)}, so latencies may be its own" if _strained(one) else ""
    processes = counted(one.processes, "process", "processes")
    answers = (
        f"{counted(one.requests, 'request')}, {format_count(one.failures)} failed, {format_count(round(one.rate))}/s"
    )
    times = f"p50 {latency(one.p50_s)}, p99 {latency(one.p99_s)}"
    users = f"{counted(one.users, 'user')} in {processes}, {_percent(one.cpu)} of a processor at most"
    return f"{one.driver} published: {users}; by its own count {answers}, {times}{limit}"


def limit(facts: RunFacts) -> tuple[str, str]:
    """Why a driver did not keep the rate, and what to do about it; nothing where the bench itself published.

    It was the target where hardly a user was free to send, and the driver had processor left to do so.
    """
    one, load = facts.generated, facts.load
    if one is None or load is None or load.ended <= load.begun:
        return "", ""
    waited = facts.busy_ns / (one.users * (load.ended - load.begun))
    if strained := _strained(one):
        why = f"the generator was the limit, not the target: {strained}"
        return why, "Share its users among more workers, on a machine that has processors for them, or lower the rate."
    if waited >= BUSY:
        users = "its only user" if one.users == 1 else f"all {format_count(one.users)} users"
        why = f"the target was the limit: {users} of {one.driver} waited for its answers"
        return why, "If it should answer more of them at once, raise users; else this is more than it can take."
    why = (
        f"the generator was the limit, not the target: its users waited for answers {_percent(waited)} of the time, "
        f"and {one.driver} was given {_percent(one.cpu)} of a processor"
    )
    return why, "Give the generator more processor, or lower the rate."


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _strained(one: Generated) -> str:
    """Why it could hardly do more; nothing where it could."""
    if one.warning:
        return f"{one.driver} warned that {one.warning}"
    if one.cpu + one.starved < BUSY:
        return ""
    waited = f" and waited for one {_percent(one.starved)} of the time" if one.starved >= 1 - BUSY else ""
    return f"{one.driver} used {_percent(one.cpu)} of a processor{waited}"
