"""Patterns: what a token may be, what matches what, and the same answer from both ways of matching."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squall import InvalidEvent, SubscriptionError
from squall.core.patterns import PatternTrie, check_pattern, check_type, compile_pattern

tokens = st.sampled_from(["a", "b", "$a", "order", "é", "-", "a|b", "[", "\\d"])
types = st.lists(tokens, min_size=1, max_size=5).map(".".join)
patterns = st.builds(
    lambda first, last: ".".join([*first, *last]) or "a",
    st.lists(st.one_of(tokens, st.just("*")), max_size=4),
    st.sampled_from([[], [">"], ["*"], ["a"]]),
)


def matches(pattern: str, event_type: str) -> bool:
    """The plain meaning: token by token, `*` for one, a final `>` for one or more, neither for a first `$…`."""
    wanted, given_ = pattern.split("."), event_type.split(".")
    if given_[0].startswith("$") and wanted[0] in ("*", ">"):
        return False
    if wanted[-1] == ">":
        return len(given_) >= len(wanted) and matches_each(wanted[:-1], given_)
    return len(given_) == len(wanted) and matches_each(wanted, given_)


def matches_each(wanted: list[str], given_: list[str]) -> bool:
    return all(want in ("*", got) for want, got in zip(wanted, given_, strict=False))


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("order.created", ["order.created"], ["order", "order.created.eu", "Order.created", "orderxcreated"]),
        ("order.*", ["order.created", "order.$x"], ["order", "order.a.b"]),
        ("*.created", ["order.created"], ["order.paid", "created", "$order.created"]),
        ("order.>", ["order.a", "order.a.b.c"], ["order", "orders.a"]),
        (">", ["a", "a.b.c"], ["$a", "$squall.started"]),
        ("*", ["a"], ["a.b", "$a"]),
        ("$squall.>", ["$squall.started"], ["$squall", "squall.started"]),
        ("a.*.c.>", ["a.b.c.d", "a.b.c.d.e"], ["a.b.c", "a.c.d"]),
    ],
)
def test_tokens_mean_what_the_contract_says(pattern: str, yes: list[str], no: list[str]) -> None:
    """`*` is one token, `>` one or more at the end; case counts; `$` types are found only by name."""
    test = compile_pattern(pattern)
    trie = PatternTrie[str]()
    trie.add(pattern, "x")
    for event_type in yes:
        assert test(event_type), event_type
        assert [*trie.match(event_type)] == ["x"], event_type
    for event_type in no:
        assert not test(event_type), event_type
        assert [*trie.match(event_type)] == [], event_type


@given(patterns, types)
def test_a_compiled_pattern_agrees_with_the_plain_meaning(pattern: str, event_type: str) -> None:
    """For any pattern and type, special characters of regular expressions included."""
    assert compile_pattern(pattern)(event_type) is matches(pattern, event_type)


@given(st.lists(patterns, max_size=12), st.lists(types, min_size=1, max_size=6), st.data())
def test_the_trie_agrees_with_the_plain_meaning(chosen: list[str], asked: list[str], data: st.DataObject) -> None:
    """Whatever was added and removed, it finds just what matches, each as often as it was added."""
    trie = PatternTrie[int]()
    kept = dict(enumerate(chosen))
    for number, pattern in kept.items():
        trie.add(pattern, number)
    for number in data.draw(st.sets(st.sampled_from([*kept]))) if kept else ():
        trie.remove(kept.pop(number), number)
    for event_type in asked:
        assert sorted(trie.match(event_type)) == [n for n, pattern in kept.items() if matches(pattern, event_type)]


def test_removing_what_was_not_added_is_an_error() -> None:
    """A mistake of the caller's is not silent."""
    trie = PatternTrie[int]()
    trie.add("a.b", 1)
    with pytest.raises(ValueError, match="not in list"):
        trie.remove("a.b", 2)


LIMITS = [
    (".".join("a" * 16), True),
    (".".join("a" * 17), False),
    ("a" * 256, True),
    ("a" * 257, False),
    ("é" * 256, True),
]


@pytest.mark.parametrize(("text", "good"), LIMITS)
def test_sixteen_tokens_and_256_characters_are_the_most(text: str, good: bool) -> None:
    """Types and patterns alike; the message says the limit."""
    if good:
        assert check_type(text) == check_pattern(text) == text
        return
    with pytest.raises(InvalidEvent, match="at most 16 tokens and 256 characters"):
        check_type(text)
    with pytest.raises(SubscriptionError, match="at most 16 tokens and 256 characters"):
        check_pattern(text)


@pytest.mark.parametrize("bad", ["", ".", "a.", ".a", "a..b", "a b", "a\tb", "a.b\n", "a\x00", "a\x7f", None, 7, b"a"])
def test_malformed_types_and_patterns_are_refused(bad: object) -> None:
    """The message names the parameter, the expectation and what was given."""
    with pytest.raises(InvalidEvent, match=r"event_type: .*(expected|must be) .*got "):
        check_type(bad)
    with pytest.raises(SubscriptionError, match=r"pattern: .*(expected|must be) .*got "):
        check_pattern(bad)


@pytest.mark.parametrize("bad", ["*", ">", "a.*", "a.>", "a*", "a.b>"])
def test_an_event_type_has_no_wildcards(bad: str) -> None:
    """What is published is one thing."""
    with pytest.raises(InvalidEvent, match="token"):
        check_type(bad)


@pytest.mark.parametrize("own", ["$", "$a", "$squall.started"])
def test_squalls_own_types_are_nobody_elses_to_publish(own: str) -> None:
    """They can be listened to; elsewhere than in front the sign is one like others."""
    with pytest.raises(InvalidEvent, match=r"event_type: expected .* not begin with '\$'.* got '\$"):
        check_type(own)
    assert check_pattern(own) == own
    assert check_type("a$b.$c") == "a$b.$c"


@pytest.mark.parametrize("bad", ["a*", "*a", "a.>.b", ">.a", "a>", "**", "a.b*.c", ">>"])
def test_a_wildcard_stands_alone_and_the_rest_stands_last(bad: str) -> None:
    """No globbing inside a token, no `>` before the end."""
    with pytest.raises(SubscriptionError, match="token"):
        compile_pattern(bad)


def test_a_long_text_is_cut_in_the_message() -> None:
    """Errors stay readable."""
    with pytest.raises(InvalidEvent) as caught:
        check_type("a" * 10_000)
    assert len(str(caught.value)) < 250
