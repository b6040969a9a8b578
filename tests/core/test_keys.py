"""One delivery in flight per key, in the order of turns."""

from __future__ import annotations

from collections import defaultdict, deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.core.world import event

from squall import Event
from squall.core.keys import KeyLocks


class KeysMachine(RuleBasedStateMachine):
    """Any order of claims and releases, against a queue per key whose first one holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.locks = KeyLocks()
        self.lines: dict[str, deque[Event]] = defaultdict(deque)
        self.count = 0

    @rule(key=st.sampled_from("abc"))
    def claim(self, key: str) -> None:
        self.count += 1
        one = event(key=key, seq=self.count)
        line = self.lines[key]
        assert self.locks.claim(one) is (not line)
        line.append(one)

    @rule(key=st.sampled_from("abc"))
    def claim_again(self, key: str) -> None:
        if self.lines[key]:
            assert self.locks.claim(self.lines[key][0]), "its holder may be delivered again"

    @rule(key=st.sampled_from("abc"))
    def release(self, key: str) -> None:
        line = self.lines[key]
        if not line:
            assert self.locks.release(event(key=key)) is None
            return
        following = self.locks.release(line.popleft())
        assert following is (line[0] if line else None), "the next in line holds the key now"

    @rule(key=st.sampled_from("abc"))
    def a_stranger_cannot_release(self, key: str) -> None:
        assert self.locks.release(event(key=key)) is None

    @invariant()
    def it_knows_who_holds_and_who_waits(self) -> None:
        lines = self.lines.values()
        assert {one.seq for one in self.locks.waiting.values()} == {one.seq for line in lines for one in [*line][1:]}
        assert {one.seq for one in self.locks.in_hand()} == {one.seq for line in lines for one in line}


TestKeys = KeysMachine.TestCase
TestKeys.settings = settings(max_examples=40)


def test_events_without_a_key_never_wait() -> None:
    """Nor do they hold anything."""
    locks = KeyLocks()
    assert locks.claim(event(seq=1))
    assert locks.claim(event(seq=2))
    assert locks.release(event(seq=1)) is None
    assert locks.in_hand() == []


def test_a_lock_that_lets_two_in_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine above fails for locks that always say yes."""
    monkeypatch.setattr(KeyLocks, "claim", lambda locks, one: True)
    machine = KeysMachine()
    machine.claim("a")
    with pytest.raises(AssertionError):
        machine.claim("a")
