"""What a file says is held against the options that it may have: every mistake at its place, in one go."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field

from squall.core.errors import ConfigError
from squall.core.options import Options
from squall.core.units import Seconds
from squall.core.yaml_source import (
    parse_document,
)


class Handler(Options):
    noun: ClassVar[str] = "a handler"
    latency: Seconds = 0.0


class Subscriber(Options):
    noun: ClassVar[str] = "a subscriber"
    pattern: str
    handler: Handler = Handler()
    overflow: Literal["block", "reject"] = "block"


class Shop(Options):
    noun: ClassVar[str] = "a shop"
    subscribers: dict[str, Subscriber]
    stages: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, max_length=3)] = (1,)
    size: int | str = 0
    ratio: float = 0.5
    duration: Seconds = Field(default=1.0, alias="for")


def complaints(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_document(text, "shop.yaml").validate(Shop)
    return [str(problem) for problem in caught.value.problems]


def test_an_unknown_key_is_pointed_at_with_the_nearest_right_name() -> None:
    """As people see it: place, sentence, the line, a caret under the key."""
    text = "subscribers:\n  billing:\n    patern: order.>\n    pattern: x\n"
    assert complaints(text) == [
        "shop.yaml:3:5: subscribers.billing: 'patern' is not an option of a subscriber\n"
        "    3 |     patern: order.>\n"
        "      |     ^^^^^^ did you mean 'pattern'?"
    ]


def test_an_unknown_key_that_resembles_nothing_is_answered_with_all_options() -> None:
    """Aliases are listed as people write them."""
    (told,) = complaints("{subscribers: {}, zzz: 1}")
    assert "options: for, ratio, size, stages, subscribers" in told


def test_every_error_is_told_at_once_in_the_order_of_the_file() -> None:
    """Wrong types, values, missing and unknown keys, at any depth."""
    text = (
        "stages: [1, 0, x]\n"
        "subscribers:\n"
        "  billing:\n"
        "    handler: {latency: fast, latence: 1s}\n"
        "    overflow: blok\n"
        "  audit: 5\n"
        "size: [1]\n"
        "ratio: .inf\n"
        "for: true\n"
    )
    told = [line for problem in complaints(text) for line in problem.splitlines()[:1]]
    duration = "a duration such as 100ms, 5s, 2m or 1h (a plain number is seconds)"
    assert told == [
        "shop.yaml:1:13: stages[1]: expected at least 1, got 0",
        "shop.yaml:1:16: stages[2]: expected a whole number, got the text 'x'",
        "shop.yaml:3:3: subscribers.billing: 'pattern' is required in a subscriber",
        f"shop.yaml:4:24: subscribers.billing.handler.latency: expected {duration}, got 'fast'",
        "shop.yaml:4:30: subscribers.billing.handler: 'latence' is not an option of a handler",
        "shop.yaml:5:15: subscribers.billing.overflow: expected 'block' or 'reject', got 'blok'",
        "shop.yaml:6:10: subscribers.audit: expected a mapping, got 5",
        "shop.yaml:7:1: size: expected a whole number or text, got a list",
        "shop.yaml:8:8: ratio: expected a finite number, got inf",
        f"shop.yaml:9:6: for: expected {duration}, got true",
    ]


def test_nothing_converts_silently() -> None:
    """Text is not a number, a number is not text, a bool is neither."""
    for text in ("ratio: '1'", "ratio: true", "size: 1.5", "stages: 5", "stages: {a: 1}"):
        assert len(complaints(f"subscribers: {{}}\n{text}\n")) == 1


def test_a_list_is_too_short_only_when_it_is() -> None:
    """Wrong entries are told themselves, and do not make their list shorter."""
    assert [told.splitlines()[0] for told in complaints("{subscribers: {}, stages: []}")] == [
        "shop.yaml:1:19: stages: expected a length of at least 1, got 0"
    ]
    assert [told.splitlines()[0] for told in complaints("{subscribers: {}, stages: [x]}")] == [
        "shop.yaml:1:28: stages[0]: expected a whole number, got the text 'x'"
    ]
    assert "stages: expected a length of at most 3, got 4" in complaints("{subscribers: {}, stages: [1, 1, 1, 1]}")[0]


def test_a_section_that_its_own_key_chooses_is_told_by_that_key() -> None:
    """As of every other key: required, or one of those there are; and a pair with one entry lacks the second."""

    class Round(Options):
        noun: ClassVar[str] = "a shape"
        kind: Literal["round"]

    class Square(Options):
        noun: ClassVar[str] = "a shape"
        kind: Literal["square"]

    class Drawing(Options):
        shape: Annotated[Round | Square, Field(discriminator="kind")]
        size: tuple[int, int] = (1, 1)
        name: Annotated[str, Field(min_length=1)] = "x"

    def told(text: str) -> str:
        with pytest.raises(ConfigError) as caught:
            parse_document(text, "d").validate(Drawing)
        return str(caught.value).splitlines()[0]

    assert told("shape: {kind: rond}") == "d:1:15: shape.kind: expected 'round' or 'square', got 'rond'"
    assert told("shape: {}") == "d:1:1: shape: 'kind' is required in a shape"
    assert told("{shape: {kind: round}, size: [1]}") == "d:1:24: size: expected more entries: number 2 is missing"
    assert told("{shape: {kind: round}, name: ''}") == "d:1:30: name: expected text that is not empty, got ''"


def test_the_whole_file_may_be_the_wrong_kind_of_thing() -> None:
    """A list, a word or nothing at the top."""
    assert complaints("- 1\n")[0].startswith("shop.yaml:1:1: expected a mapping, got a list")
    assert complaints("hello\n")[0].startswith("shop.yaml:1:1: expected a mapping, got 'hello'")
    assert complaints("~\n")[0].startswith("shop.yaml:1:1: expected a mapping, got nothing")
