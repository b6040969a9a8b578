"""Head sampling: a share of ids, the same everywhere."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squall.core.identity import system_ids
from squall.plugins.tracing.sampling import Sampler


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_the_share_is_exact_over_a_block_of_ids(share: float) -> None:
    """squall's ids go through all endings in turn: of 4,096 in a row the share is right within one."""
    make = system_ids()
    taken = sum(Sampler(share).takes(make()) for _ in range(4096))
    assert abs(taken - share * 4096) <= 1


def test_a_share_below_one_in_4096_is_reached_too() -> None:
    """More bits are asked where the last twelve do not suffice."""
    ids = [str(UUID(int=number << 96 | 4 << 76 | 8 << 60, version=4)) for number in range(0, 1 << 32, 1 << 20)]
    taken = sum(Sampler(1 / 8192).takes(one) for one in ids)
    assert taken == len(ids) // 2


@given(st.uuids(), st.floats(0, 1), st.floats(0, 1))
def test_who_takes_more_takes_those_too(one: UUID, a: float, b: float) -> None:
    """The decision is the id's alone, and greater shares hold smaller ones."""
    less, more = sorted((a, b))
    event_id = str(one)
    assert Sampler(less).takes(event_id) == Sampler(less).takes(event_id)
    assert Sampler(less).takes(event_id) <= Sampler(more).takes(event_id)
    assert not Sampler(0.0).takes(event_id)
    assert Sampler(1.0).takes(event_id)


@given(st.text(max_size=40), st.floats(0, 1))
def test_any_text_can_be_asked_about(event_id: str, share: float) -> None:
    """Ready-made events may have any id."""
    assert Sampler(share).takes(event_id) in (True, False)
    assert Sampler(1.0).takes(event_id)
