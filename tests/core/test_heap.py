"""What is in memory when work begins is set aside from the garbage collector while it lasts."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from squall.core.heap import heap_set_aside


@pytest.fixture(autouse=True)
def nothing_set_aside() -> Iterator[None]:
    """The tests' own process has set nothing aside, and leaves nothing so."""
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_what_is_set_aside_is_given_back() -> None:
    """However the work ends: a program may go on for long."""

    def work() -> None:
        with heap_set_aside():
            assert gc.get_freeze_count() > 10_000
            raise ValueError("failed")

    with pytest.raises(ValueError, match="failed"):
        work()
    assert gc.get_freeze_count() == 0


def test_what_the_program_has_set_aside_by_itself_stays_so() -> None:
    """Nobody gives back what is not its own."""
    gc.freeze()
    with heap_set_aside():
        pass
    assert gc.get_freeze_count()
