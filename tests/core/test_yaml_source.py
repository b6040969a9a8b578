"""YAML is read strictly, and every mistake is placed at its line and column."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squall.core.errors import ConfigError, Problem
from squall.core.yaml_source import (
    MAX_PROBLEMS,
    limited,
    load_document,
    number_of,
    parse_document,
    parse_scalar,
)


def problems_of(text: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_document(text, "f.yaml")
    return caught.value.problems


def the_problem(text: str) -> Problem:
    (problem,) = problems_of(text)
    return problem


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("off", "off"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12:30", "12:30"),
        ("190:20:30", "190:20:30"),
        ("0123", 123),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("-7", -7),
        ("2026-11-23", "2026-11-23"),
        ("1e3", 1000.0),
        ("-1.5", -1.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("-.inf", float("-inf")),
        ("9223372036854775807", 2**63 - 1),
        ("'5'", "5"),
        ('"no"', "no"),
        ("'~'", "~"),
        ("=", "="),
        ("order.>", "order.>"),
    ],
)
def test_scalars_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    """No word but true and false is a bool, no colon makes a number, no leading zero makes it octal."""
    data = parse_document(f"key: {text}", "f.yaml").data
    assert data == {"key": value}
    assert isinstance(data, dict)
    assert type(data["key"]) is type(value)


def test_keys_are_text_whatever_they_look_like() -> None:
    """`on`, `true` and `1` as keys are the words themselves."""
    assert parse_document("on: 1\ntrue: 2\n1: 3\n", "f").data == {"on": 1, "true": 2, "1": 3}


def test_block_scalars_are_text() -> None:
    """Folded and literal blocks never become numbers."""
    assert parse_document("a: |\n  5\nb: >\n  6\n", "f").data == {"a": "5\n", "b": "6\n"}


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 1, "'a' is given twice; first in line 1"),
        ("x:\n  a: 1\n  'a': 3\n", 3, 3, "x: 'a' is given twice; first in line 2"),
        ("a: &n 1\n", 1, 4, "anchors are not used here: &n"),
        ("a: &n [1]\n", 1, 4, "anchors are not used here: &n"),
        ("a: *created\n", 1, 4, "aliases are not used here: *created"),
        ("a: *.created\n", 1, 5, "not valid YAML: did not find expected alphabetic or numeric character"),
        ("a: !!python/object:os.system 1\n", 1, 4, "tags are not used here: tag:yaml.org,2002:python/object:os.system"),
        ("a: !x {b: 1}\n", 1, 4, "tags are not used here: !x"),
        ("a: ! 5\n", 1, 4, "tags are not used here: !"),
        ("a:\n  <<: {b: 1}\n", 2, 3, "a: merge keys (<<) are not used here"),
        ("a: 1\n---\nb: 2\n", 2, 1, "a second document begins here"),
        ("a: 1\n\tb: 2\n", 2, 1, "not valid YAML: found a tab character that violates indentation"),
        ("[", 2, 1, "not valid YAML: did not find expected node content"),
        ("a: [1, 2\nb: 3\n", 2, 2, "not valid YAML: did not find expected ',' or ']'"),
        ("a: b: c\n", 1, 5, "not valid YAML: mapping values are not allowed"),
        ("a: @x\n", 1, 4, "not valid YAML: found character that cannot start any token"),
        ('a: "open\n', 2, 1, "not valid YAML: found unexpected end of stream"),
        ("? [1, 2]\n: 3\n", 1, 3, "a key must be text"),
        ("? \n: 3\n", 1, 2, "a key must be text"),
        ("a: 9223372036854775808\n", 1, 4, "a: whole numbers go up to 9,223,372,036,854,775,807"),
        ("a: " + "9" * 100_000, 1, 4, "a: whole numbers go up to"),
        ("a: 0x" + "f" * 5_000, 1, 4, "a: whole numbers go up to"),
        ("a: b\x00c\n", 1, 5, "character U+0000 is not allowed"),
        ("a: 1\nb: \x1b[31m\n", 2, 4, "character U+001B is not allowed"),
        ("", 1, 1, "the file is empty"),
        ("# only a comment\n", 1, 1, "the file is empty"),
        ("%YAML 3.0\n---\na: 1\n", 1, 1, "not valid YAML: found incompatible YAML document"),
    ],
)
def test_what_is_refused_is_one_problem_at_its_place(text: str, line: int, column: int, words: str) -> None:
    """One sentence, at the line and column where the mistake begins."""
    problem = the_problem(text)
    assert (problem.line, problem.column) == (line, column)
    assert words in problem.message


def test_an_unquoted_pattern_is_answered_with_the_quotes_it_needs() -> None:
    """`pattern: *.created` is the mistake that everyone makes once."""
    assert "must be quoted: '*.created'" in the_problem("pattern: *.created\n").hint
    assert "quote it" in the_problem("pattern: *\n").hint or "quoted" in the_problem("pattern: *\n").hint


def test_a_variable_in_braces_is_answered_with_quotes() -> None:
    """`{rate: ${x}}` opens a mapping inside the mapping."""
    assert the_problem("{rate: ${x}}\n").hint == "a value that holds { or } must be quoted here"


def test_what_is_indented_otherwise_is_answered_with_the_rule() -> None:
    """libyaml only says what it did not find."""
    problem = the_problem("load:\n  stages: []\n   events: []\n")
    assert (problem.line, problem.column) == (3, 4)
    assert problem.hint == "look at the indentation: what belongs together begins in one column"


def test_tabs_are_answered_with_spaces() -> None:
    """Wherever the parser stumbles over them."""
    for text in ("a:\n\tb: 2\n", "a: 1\n\tb: 2\n", "\ta: 1\n"):
        assert the_problem(text).hint == "indent with spaces, not tabs"


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 100_000, "{a: " * 50_000, "[" * 33 + "]" * 33])
def test_deep_nesting_is_refused_before_anything_recurses(text: str) -> None:
    """A hundred thousand levels are one problem at the 33rd, not a crash."""
    problem = the_problem(text)
    assert problem.message == "nested too deeply: at most 32 levels"
    assert problem.line == 1


def test_32_levels_are_fine() -> None:
    """The limit is a limit, not one less."""
    assert parse_document("[" * 32 + "]" * 32, "f").data


def test_an_alias_bomb_is_refused_at_its_first_anchor() -> None:
    """Nothing is expanded."""
    bomb = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True))
    assert "anchors are not used here: &a" in the_problem(bomb).message


def test_all_duplicate_keys_are_told_and_thousands_are_summed_up() -> None:
    """Mistakes come all at once, but never as a flood."""
    assert [p.line for p in problems_of("a: 1\na: 2\nb: 1\nb: 2\n")] == [2, 4]
    flood = problems_of("a: 1\n" * 10_000)
    assert len(flood) == MAX_PROBLEMS + 1
    assert flood[-1].message == f"and {9_999 - MAX_PROBLEMS:,} further problems"


def test_limited_lists_add_up() -> None:
    """A list of what several readers found tells how many are not shown once, at its end."""
    many = [Problem("f", "wrong", line) for line in range(1, 101)]
    last = Problem("f", "wrong", 200)
    both = limited([*limited(many), last])
    assert [problem.line for problem in both[:-1]] == list(range(1, MAX_PROBLEMS + 1))
    assert both[-1].message == "and 51 further problems"
    assert number_of(both) == 101
    assert limited(many[: MAX_PROBLEMS + 1])[-1].message == "and 1 further problem"


def test_a_byte_order_mark_is_passed_over_and_columns_count_characters() -> None:
    """Files from other editors keep true positions."""
    document = parse_document("\ufeffä: {ö: 1}\r\nb: 2\r\n", "f")
    assert document.data == {"ä": {"ö": 1}, "b": 2}
    problem = document.problem(("ä", "ö"), "no")
    assert (problem.line, problem.column, problem.excerpt) == (1, 8, "ä: {ö: 1}")
    assert document.problem(("b",), "no").line == 2


def write(path: Path, raw: bytes) -> Path:
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"a: 1\n" * 2_000_000, "the file is too large: at most 256 KiB are read"),
        (b"\x89PNG\r\n\x1a\n\x00", "f.yaml:1:1: byte 0x89 is not UTF-8"),
        (b"a: 1\nb: caf\xe9\n", "f.yaml:2:7: byte 0xe9 is not UTF-8"),
        ("a: 1".encode("utf-16"), "f.yaml: is UTF-16 text; save it as UTF-8"),
        (b"a: 1\n\x00\x00\x00", "f.yaml:2:1: character U+0000 is not allowed"),
        (b"", "f.yaml:1:1: the file is empty"),
    ],
    ids=["10 MB", "picture", "latin-1", "utf-16", "NULs", "empty"],
)
def test_files_that_are_not_yaml_text_are_one_problem(tmp_path: Path, raw: bytes, words: str) -> None:
    """Size, encoding and control characters are told before any parsing."""
    with pytest.raises(ConfigError) as caught:
        load_document(write(tmp_path / "f.yaml", raw))
    assert len(caught.value.problems) == 1
    assert words in str(caught.value)


def test_files_that_cannot_be_read_are_one_problem(tmp_path: Path) -> None:
    """Missing, a folder, a pipe without a writer, a name that no file can have."""
    os.mkfifo(tmp_path / "pipe")
    reasons = {
        "missing.yaml": "No such file",
        ".": "is not a file",
        "pipe": "is not a file",
        "a\x00b": "cannot be read",
    }
    for name, reason in reasons.items():
        with pytest.raises(ConfigError, match=reason):
            load_document(tmp_path / name)


def test_a_value_far_to_the_right_is_placed_without_its_endless_line() -> None:
    """A line of a hundred thousand characters is not repeated to people."""
    problem = parse_document("a: " + "x" * 100_000, "f").problem(("a",), "too long")
    assert len(problem.excerpt) <= 160
    assert problem.width <= 160
    far = parse_document("{a: " + "x" * 1000 + ", b: 1}", "f").problem(("b",), "no")
    assert (far.column, far.excerpt) == (1010, "")


def test_a_place_that_the_file_does_not_have_is_told_at_the_nearest_outside() -> None:
    """A default value that is wrong is placed at the section that left it out."""
    problem = parse_document("a:\n  b: {c: 1}\n", "f").problem(("a", "b", "nothing", 3), "wrong")
    assert (problem.line, problem.column, problem.message) == (2, 3, "a.b.nothing[3]: wrong")


@pytest.mark.parametrize(("text", "value"), [("5", 5), ("'5'", "5"), ("true", True), ("", None), ("a b", "a b")])
def test_a_scalar_on_the_command_line_means_what_it_means_in_a_file(text: str, value: object) -> None:
    """`--set rate=5` is a number, `--set name='5'` text."""
    assert parse_scalar(text, "--set x") == value


@pytest.mark.parametrize("text", ["[1]", "{a: 1}", "*x", "!t 1", "a: b", "---\n1\n---\n2"])
def test_a_scalar_on_the_command_line_is_nothing_but_a_scalar(text: str) -> None:
    """Structure, aliases and tags are refused there too."""
    with pytest.raises(ConfigError, match="--set x"):
        parse_scalar(text, "--set x")


def refusals(text: str) -> tuple[Problem, ...]:
    try:
        parse_document(text, "f")
    except ConfigError as error:
        return error.problems
    return ()


@given(st.text())
def test_any_text_is_read_or_refused_as_a_configuration_error(text: str) -> None:
    """No other exception escapes, and each problem lies inside the text."""
    problems = refusals(text)
    assert all(problem.line >= 1 and problem.column >= 1 for problem in problems)


@given(st.text(alphabet="a:-[]{}&*!|>'\"#%@`,?<\n \t0159.~", max_size=60))
def test_text_made_of_yaml_signs_is_read_or_refused_as_a_configuration_error(text: str) -> None:
    """The same for what looks like YAML."""
    assert all(problem.message for problem in refusals(text))
