"""Invariants of one's own: judged by their SQL, told like all others."""

from __future__ import annotations

from typing import ClassVar

import pytest
from tests.chaos.check.runs import DURABLE, MS, clean, finding_of, handled, invalid, verdict_of

from squall.core.invariant import Invariant

pytestmark = pytest.mark.slow  # each judges histories


class Quick(Invariant):
    """No call takes longer than a limit."""

    name: ClassVar[str] = "quick"
    limit: float = 0.005
    sql: ClassVar[str] = """
        SELECT event, subscription, begun AS time, 'it took longer than allowed' AS what
        FROM attempt WHERE ended - begun > $limit * 1e9"""


class Terse(Quick):
    """It says which events, and nothing else."""

    sql: ClassVar[str] = "WITH odd AS (SELECT event FROM publish WHERE event % 2 = 1) FROM odd"


class Wrong(Quick):
    """Its SQL speaks of no column."""

    sql: ClassVar[str] = "SELECT evnt FROM attempt"


class Misnamed(Quick):
    """It returns a column that nobody reads."""

    sql: ClassVar[str] = "SELECT event AS evnt FROM attempt"


def test_what_holds_is_valid() -> None:
    """No row is no violation."""
    finding = finding_of(verdict_of(clean(10, DURABLE), Quick()), "quick")
    assert (finding.state, finding.count, finding.summary) == ("valid", 0, "nothing breaks it")


def test_each_row_is_a_violation_and_they_are_told_by_what_they_say() -> None:
    """With subscriber, event, time and path, earliest first; the options are the scenario's."""
    history = clean(10, DURABLE)
    for number in (6, 3):
        one = history.attempts[number - 1]
        one.ended = one.settle_invoked = one.settle_ok = one.begun + 7 * MS
    verdict = verdict_of(history, Quick())
    finding = finding_of(verdict, "quick")
    assert invalid(verdict) == {"quick"}
    assert (finding.count, finding.summary) == (2, "2 violations")
    assert [(one.event, one.subscription, one.time_ns) for one in finding.violations] == [
        (3, DURABLE.name, handled(3).begun),
        (6, DURABLE.name, handled(6).begun),
    ]
    (cause,) = verdict.causes
    assert (cause.sentence, cause.count) == (f"{DURABLE.name}: it took longer than allowed", 2)
    assert any("delivered" in step for step in cause.steps)
    assert invalid(verdict_of(history, Quick(limit=0.007))) == set()
    assert finding_of(verdict_of(history, Quick(), Quick(limit=0.007)), "quick").state == "valid"


def test_columns_may_be_left_out() -> None:
    """Then it is said which invariant is broken, and of which event."""
    verdict = verdict_of(clean(4, DURABLE), Terse())
    assert [one.event for one in finding_of(verdict, "quick").violations] == [1, 3]
    assert verdict.causes[0].sentence == "it breaks quick"


def test_sql_that_is_wrong_makes_it_unknown() -> None:
    """Never valid: it says what the database says."""
    for kind in (Wrong, Misnamed):
        verdict = verdict_of(clean(4, DURABLE), kind())
        finding = finding_of(verdict, "quick")
        assert verdict.state == finding.state == "unknown"
        assert "evnt" in finding.summary
