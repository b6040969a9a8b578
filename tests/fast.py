"""Which of many cases that are alike `make check` tries: the first of them. `make test` tries all."""

from collections.abc import Iterable

import pytest


def first(count: int, cases: Iterable[object]) -> list[object]:
    """For `parametrize` with one argument: these cases, all but the first so many of them slow."""
    return [case if number < count else pytest.param(case, marks=pytest.mark.slow) for number, case in enumerate(cases)]
