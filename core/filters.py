"""Filters as data: what a subscription wants beyond its pattern, storable and comparable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from pydantic import AliasChoices, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from squall.core.event import Event, Priority
from squall.core.options import Options
from squall.core.patterns import compile_pattern

Predicate = Callable[[Event], bool]


def _priority(value: object) -> object:
    if isinstance(value, str) and value in Priority.__members__:
        return Priority[value]
    if isinstance(value, Priority):
        return value
    raise PydanticCustomError("expected", "expected {what}", {"what": " or ".join(map(repr, Priority.__members__))})


PriorityName = Annotated[
    Priority, BeforeValidator(_priority), WithJsonSchema({"enum": list(Priority.__members__), "type": "string"})
]


Filters = Annotated[tuple["Filter", ...], Field(strict=False)]  # a list too, where filters are given in Python


class Filter(Options):
    """Conditions on an event; all that are given must hold.

    `priority_min` means at least as urgent. `metadata` compares each named value for equality. `any`, `all` and
    `not_` (`not` in files) nest filters.
    """

    noun: ClassVar[str] = "a filter"
    model_config = ConfigDict(populate_by_name=True)

    type: str | None = None
    source: str | None = None
    priority: PriorityName | None = None
    priority_min: PriorityName | None = None
    metadata: dict[str, str | int | float | bool] | None = None
    correlation_id: str | None = None
    min_bytes: int | None = None
    max_bytes: int | None = None
    any: Filters | None = None
    all: Filters | None = None
    not_: Filter | None = Field(default=None, validation_alias=AliasChoices("not_", "not"), serialization_alias="not")

    def compile(self) -> Predicate:  # noqa: C901  one plain `if` for each condition
        """The filter as one function of an event."""
        tests: list[Predicate] = []
        for name in ("source", "correlation_id", "priority"):
            if (wanted := getattr(self, name)) is not None:
                tests.append(_equals(name, wanted))
        if self.type is not None:
            matches = compile_pattern(self.type)
            tests.append(lambda event: matches(event.type))
        if (least := self.priority_min) is not None:
            tests.append(lambda event: event.priority <= least)
        if (pairs := self.metadata) is not None:
            tests.append(lambda event: all(event.metadata.get(key) == value for key, value in pairs.items()))
        if (low := self.min_bytes) is not None:
            tests.append(lambda event: len(event.payload) >= low)
        if (high := self.max_bytes) is not None:
            tests.append(lambda event: len(event.payload) <= high)
        if self.any is not None:
            choices = [choice.compile() for choice in self.any]
            tests.append(lambda event: any(choice(event) for choice in choices))
        if self.all is not None:
            tests.extend(part.compile() for part in self.all)
        if self.not_ is not None:
            refused = self.not_.compile()
            tests.append(lambda event: not refused(event))
        return combine(tests)


def _equals(name: str, wanted: Any) -> Predicate:
    return lambda event: bool(getattr(event, name) == wanted)


def combine(tests: list[Predicate]) -> Predicate:
    """One function that is true when all of tests are."""
    if len(tests) == 1:
        return tests[0]
    return lambda event: all(test(event) for test in tests)
