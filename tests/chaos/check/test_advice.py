"""What to do about a verdict: with the figures of this run, and nothing that would not help."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.chaos.check.model import Counter, FaultHit, FaultWindow, Gate, History, Terminal, write
from tests.chaos.check.runs import FACTS, MS, clean, finding_of, handled, verdict_of

from squall.chaos.check.blame import why
from squall.chaos.check.expectations import Expectation, Latency, Recovery
from squall.chaos.check.verdict import Cause
from squall.chaos.remedies import what_to_do

pytestmark = pytest.mark.slow  # each judges histories


def cause_of(history: History, expected: Expectation, invariant: str) -> Cause:
    (cause,) = [one for one in verdict_of(history, expected).causes if one.invariant == invariant]
    return cause


def cut_off_in_every_attempt(history: History) -> History:
    """Event 5, three times at its 50 ms; then it is a dead letter."""
    tries = [handled(5, begun_ms=52 + 100 * place, attempt=place + 1) for place in range(3)]
    for one in tries:
        one.ended = one.settle_invoked = one.settle_ok = one.begun + 50 * MS
        one.result, one.settlement = "timeout", "nak"
    tries[-1].settlement = "term"
    history.attempts[4:5] = tries
    history.terminals.append(Terminal(5, time=310 * MS))
    return history


def test_a_handler_that_is_slower_than_its_timeout_is_told_so(tmp_path: Path) -> None:
    """Its timeout, and what the slowest took that ended well; without any violation too, to who asks for the event."""
    history = cut_off_in_every_attempt(clean(50))
    cause = cause_of(history, Latency(max=0.1), "latency")
    assert cause.sentence == "billing's handler was cut off at its timeout of 50 ms in every attempt: 3 attempts"
    advice = "Raise the timeout of 50 ms, or make the handler faster: the slowest that ended well took 3 ms."
    assert cause.advice == advice
    story = why(write(history, tmp_path / "history"), FACTS, 5)
    assert story is not None
    assert story.advice == (advice,)
    history.attempts[4].result = "ok"
    other = why(write(history, tmp_path / "once-well"), FACTS, 5)
    assert other is not None
    assert other.advice == ()


def test_where_nothing_ended_well_there_is_no_such_figure() -> None:
    """Nobody knows how long the handler takes."""
    history = cut_off_in_every_attempt(clean(5))
    history.attempts = history.attempts[4:]
    causes = verdict_of(history, Latency(max=0.1)).causes
    assert "Raise the timeout of 50 ms, or make the handler faster: none ended well." in {one.advice for one in causes}


def test_a_fault_that_kept_the_handler_is_to_blame_and_not_its_timeout() -> None:
    """A longer timeout would not help; of one attempt that it did not touch, it might."""
    history = cut_off_in_every_attempt(clean(50))
    history.faults.append(FaultWindow(0, "hangs", 40 * MS, 400 * MS, "hang"))
    history.hits += [FaultHit(0, one.begun, 5, 0) for one in history.attempts[4:7]]
    cause = cause_of(history, Latency(max=0.1), "latency")
    assert "in every attempt (fault hangs)" in cause.sentence
    assert cause.advice.startswith("Try it again for longer than the fault lasts")
    history.hits.pop()
    assert cause_of(history, Latency(max=0.1), "latency").advice.startswith("Raise the timeout of 50 ms")


def test_a_recovery_that_timeouts_delayed_says_so_too() -> None:
    """Another backoff would not help."""
    history = cut_off_in_every_attempt(clean(50))
    history.faults.append(FaultWindow(0, "errors", 40 * MS, 60 * MS))
    history.hits.append(FaultHit(0, 41 * MS, 4, 0))
    history.terminals.clear()
    history.attempts[6].settlement = "nak"
    history.counters = [Counter(2000 * MS, "pending", 0, 1)]
    wanted = Recovery.model_validate({"of": "errors", "within": 0.2, "age": 0.1})
    (cause,) = [one for one in verdict_of(history, wanted).causes if "the last to recover" in one.sentence]
    assert "its handler had failed 3 times" in cause.sentence
    assert cause.advice.startswith("Raise the timeout of 50 ms")


@pytest.mark.parametrize(("gate", "said"), [("breaker", "Let it be open for a shorter time"), ("dead_letters", "mend")])
def test_what_to_do_about_a_gate_follows_from_what_it_is(gate: str, said: str) -> None:
    """One that only a person can close again is not open for too long: what it was given was not handled."""
    history = clean(50)
    history.attempts[6] = handled(7, begun_ms=900)
    history.faults = [FaultWindow(0, "errors", 60 * MS, 100 * MS)]
    history.gates = [Gate(72 * MS, "open", gate=gate), Gate(890 * MS, "closed", gate=gate)]
    recovery = Recovery.model_validate({"of": "errors", "within": 0.2, "age": 0.1})
    for expected, invariant in ((Latency(max=0.1), "latency"), (recovery, "recovery")):
        cause = cause_of(history, expected, invariant)
        assert said in cause.advice, cause
        assert "let the limit allow for it" in cause.advice or gate == "dead_letters"
    history = clean()
    history.attempts = history.attempts[:5]
    history.gates = [Gate(58 * MS, "open", gate=gate)]
    history.counters = [Counter(2000 * MS, "pending", 0, 5)]
    (cause,) = verdict_of(history, facts=replace(FACTS, drained=False)).causes
    assert f"its {gate} was open" in cause.sentence
    assert said in cause.advice


@pytest.mark.parametrize(
    ("variable", "achieved", "said"),
    [
        ("rate", 1234, "Try --set rate=1200: 1,200/s is what this run reached in time."),
        ("", 1234, "Try a lower rate in load.stages: 1,200/s is what this run reached in time."),
        ("rate", 7, "Try --set rate=7: 7/s"),
        ("rate", 0, "Lower the rate, or give the generator more processor"),
        ("rate", 2500, "Lower the rate, or give the generator more processor"),  # most of it was a burst
    ],
)
def test_a_rate_that_was_not_kept_names_one_that_was(variable: str, achieved: int, said: str) -> None:
    """In the words of the command line, where a variable says it."""
    facts = replace(FACTS, asked=3000, achieved=achieved, rate=2000.0, rate_variable=variable)
    (reason,) = verdict_of(clean(), facts=facts).reasons
    assert reason.code == "rate_not_kept"
    assert what_to_do(reason).startswith(said)


def test_a_valid_event_has_no_advice(tmp_path: Path) -> None:
    """There is nothing to do."""
    story = why(write(clean(), tmp_path / "history"), FACTS, 5)
    assert story is not None
    assert story.advice == ()
    assert finding_of(verdict_of(clean()), "no_loss").code is None
