"""Durations and sizes as people write them."""

from __future__ import annotations

from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter

from squall.core.errors import ConfigError
from squall.core.options import Options
from squall.core.units import (
    Bytes,
    Ratio,
    Seconds,
    format_bytes,
    format_count,
    format_rate,
    format_seconds,
    parse_bytes,
    parse_seconds,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("100ms", 0.1),
        ("5s", 5.0),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("1.5s", 1.5),
        ("10us", 1e-5),
        ("2d", 172800.0),
        ("0s", 0.0),
        (5, 5.0),
        (0.25, 0.25),
        ("3 s", 3.0),
    ],
)
def test_durations_are_read(text: object, seconds: float) -> None:
    """With a unit, or as plain seconds."""
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "5",
        "",
        "s",
        "5x",
        "-5s",
        "5S",
        "1e3s",
        "5s 3ms",
        "\u0665s",
        "9" * 400 + "s",
        "inf",
        -1,
        True,
        None,
        [5],
        float("nan"),
        float("inf"),
        10**400,
        "999999999999d",
    ],
)
def test_what_is_no_duration_is_refused_with_the_accepted_forms(text: object) -> None:
    """Bools, negatives, infinities, text without unit, digits of other scripts, and ages of the universe."""
    with pytest.raises(ValueError, match=r"expected a duration (such as 100ms, 5s, 2m or 1h|of at (most|least))"):
        parse_seconds(text)


@pytest.mark.parametrize("seconds", ["-1s", "-0.5 h", "-" + "9" * 400 + "d", -1, -1e300, -(10**400), -float("inf")])
def test_a_negative_duration_is_told_the_shortest(seconds: object) -> None:
    """It has the right form, and the wrong sign."""
    with pytest.raises(ValueError, match=r"^expected a duration of at least 0s$"):
        parse_seconds(seconds)


@pytest.mark.parametrize("seconds", [2**63, 10**400, 3651 * 86_400, float("inf"), "3651d", "9" * 20 + "h"])
def test_too_long_a_duration_is_told_the_longest(seconds: object) -> None:
    """However large the number is."""
    with pytest.raises(ValueError, match=r"expected a duration of at most 3650d"):
        parse_seconds(seconds)


@pytest.mark.parametrize(
    ("text", "size"), [("200B", 200), ("4KB", 4000), ("1MB", 10**6), ("4KiB", 4096), ("1.5KB", 1500), (7, 7), ("0B", 0)]
)
def test_sizes_are_read(text: object, size: int) -> None:
    """KB is a thousand, KiB 1024."""
    assert parse_bytes(text) == size


def test_a_unit_of_the_wrong_case_and_a_percentage_are_told_how_they_are_written() -> None:
    """Not guessed: `mb` may be bits to some, and a share is a number everywhere."""
    with pytest.raises(ValueError, match="so '1KB'"):
        parse_bytes("1kb")
    with pytest.raises(ValueError, match=r"a share between 0 and 1, so 0\.025"):
        TypeAdapter(Ratio).validate_python("2.5%")


@pytest.mark.parametrize("text", ["5", "1.5B", "4kb", "4 TB", "1.0000000001B", 1.5, True, None])
def test_what_is_no_size_is_refused_with_the_accepted_forms(text: object) -> None:
    """Fractions of a byte and unknown units among them."""
    with pytest.raises(ValueError, match="expected a size such as 200B, 4KB or 1MB"):
        parse_bytes(text)


@pytest.mark.parametrize("size", ["-1B", "-1.5 KB", "-" + "9" * 400 + "GB", -1, -(10**400)])
def test_a_negative_size_is_told_the_smallest(size: object) -> None:
    """As a duration is."""
    with pytest.raises(ValueError, match=r"^expected a size of at least 0B$"):
        parse_bytes(size)


@pytest.mark.parametrize("size", [2**40 + 1, 10**400, "1025GiB", "9" * 400 + "GB"])
def test_too_large_a_size_is_told_the_largest(size: object) -> None:
    """However large the number is; the largest itself can be read."""
    with pytest.raises(ValueError, match=r"^expected a size of at most 1024GiB$"):
        parse_bytes(size)
    assert parse_bytes("1024GiB") == 2**40


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (1.5, "1.5s"),
        (90, "90s"),
        (120, "2m"),
        (3600, "1h"),
        (86400, "1d"),
        (1e-5, "10us"),
        (5e-9, "5ns"),
        (10.0, "10s"),
        (100.0, "100s"),
    ],
)
def test_durations_are_written_as_people_would(seconds: float, text: str) -> None:
    """The largest unit that leaves no fraction above a minute, no needless digits below."""
    assert format_seconds(seconds) == text


@given(st.integers(min_value=0, max_value=10**8))
def test_a_written_duration_reads_as_itself(milliseconds: int) -> None:
    """Round trip to the millisecond."""
    assert parse_seconds(format_seconds(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


def test_sizes_counts_and_rates_are_written_as_people_would() -> None:
    """Thousands separated, no needless fraction."""
    assert [format_bytes(n) for n in (0, 200, 4000, 1_500_000)] == ["0B", "200B", "4KB", "1.5MB"]
    assert [format_count(n) for n in (0, 62_317, 0.5)] == ["0", "62,317", "0.5"]
    assert format_rate(2000) == "2,000/s"


def test_fields_hold_numbers_and_can_be_bounded() -> None:
    """An options model takes both forms, and its bounds hold for both."""

    class Section(Options):
        wait: Annotated[Seconds, Field(gt=0)] = 1.0
        size: Bytes = 200

    assert Section.of("section", {"wait": "5s", "size": "4KB"}) == Section(wait=5.0, size=4000)
    with pytest.raises(ConfigError, match=r"section: wait: expected more than 0, got '0s'"):
        Section.of("section", {"wait": "0s"})
    with pytest.raises(ConfigError, match=r"Section: wait: expected a duration"):
        Section(wait=True)


def test_the_schema_takes_what_the_parser_takes() -> None:
    """Editors that know the schema accept `5s` and 5, and mark `5`."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = TypeAdapter(Seconds).json_schema()
    for good in (5, 0.5, "100ms"):
        jsonschema.validate(good, schema)
    for bad in ("5", "fast", -1, True):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)
