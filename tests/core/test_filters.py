"""Filters as data: each condition, any, all and not, against a plain reading of their meaning."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.core.test_patterns import matches
from tests.core.world import event

from squall import ConfigError, Event, Filter, Priority, SubscriptionError

NOT_A = Filter.of("filter", {"not": Filter(source="a")})
types = st.sampled_from(["order.created", "order.paid", "stock.low", "$squall.x"])
patterns = st.sampled_from(["order.*", "order.created", ">", "*.low", "$squall.>"])
words = st.sampled_from(["a", "b", ""])
values = st.one_of(words, st.integers(0, 2), st.booleans(), st.sampled_from([0.5, 1.0]))
metadata = st.dictionaries(st.sampled_from(["x", "y"]), values, max_size=2)
priorities = st.sampled_from([*Priority])

events = st.builds(
    lambda kind, priority, source, correlation, meta, size: event(
        kind, priority, source=source, correlation_id=correlation, metadata=dict(meta), payload=b"." * size
    ),
    types,
    priorities,
    words,
    words,
    metadata,
    st.integers(0, 4),
)

conditions = st.fixed_dictionaries(
    {},
    optional={
        "type": patterns,
        "source": words,
        "priority": priorities,
        "priority_min": priorities,
        "metadata": metadata,
        "correlation_id": words,
        "min_bytes": st.integers(0, 4),
        "max_bytes": st.integers(0, 4),
    },
)


def nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """The same conditions, with some of the inner ones under any, all and not."""
    several = st.lists(inner, max_size=3)
    return st.builds(
        lambda own, more: {**own, **more},
        conditions,
        st.fixed_dictionaries({}, optional={"any": several, "all": several, "not_": inner}),
    )


trees = st.recursive(conditions, nested, max_leaves=6)


def holds(tree: dict[str, Any], one: Event) -> bool:  # noqa: C901  one line for each meaning
    """The plain meaning: every condition that is given must hold."""
    for name, wanted in tree.items():
        match name:
            case "type":
                good = matches(wanted, one.type)
            case "priority_min":
                good = list(Priority).index(one.priority) <= list(Priority).index(wanted)
            case "metadata":
                good = all(key in one.metadata and one.metadata[key] == value for key, value in wanted.items())
            case "min_bytes":
                good = len(one.payload) >= wanted
            case "max_bytes":
                good = len(one.payload) <= wanted
            case "any":
                good = sum(holds(part, one) for part in wanted) > 0
            case "all":
                good = sum(holds(part, one) for part in wanted) == len(wanted)
            case "not_":
                good = not holds(wanted, one)
            case _:
                good = getattr(one, name) == wanted
        if not good:
            return False
    return True


def build(tree: dict[str, Any]) -> Filter:
    """The filter that says what the tree says."""
    own = dict(tree)
    for name in ("any", "all"):
        if name in own:
            own[name] = tuple(build(part) for part in own[name])
    if "not_" in own:
        own["not_"] = build(own["not_"])
    return Filter(**own)


@given(trees, st.lists(events, min_size=1, max_size=5))
def test_a_filter_agrees_with_its_plain_meaning(tree: dict[str, Any], asked: list[Event]) -> None:
    """Any tree of conditions, on any events."""
    test = build(tree).compile()
    assert [test(one) for one in asked] == [holds(tree, one) for one in asked]


@pytest.mark.parametrize(
    ("wanted", "yes", "no"),
    [
        (Filter(), event(), None),
        (Filter(type="order.*"), event("order.paid"), event("stock.low")),
        (Filter(source="shop"), event(source="shop"), event(source="Shop")),
        (Filter(priority=Priority.HIGH), event(priority=Priority.HIGH), event(priority=Priority.CRITICAL)),
        (Filter(priority_min=Priority.HIGH), event(priority=Priority.CRITICAL), event(priority=Priority.NORMAL)),
        (Filter(metadata={"eu": True}), event(metadata={"eu": True, "n": 1}), event(metadata={"n": 1})),
        (Filter(correlation_id="c1"), event(correlation_id="c1"), event(correlation_id="c2")),
        (Filter(min_bytes=2), event(payload=b"12"), event(payload=b"1")),
        (Filter(max_bytes=1), event(payload=b"1"), event(payload=b"12")),
        (Filter(any=(Filter(source="a"), Filter(source="b"))), event(source="b"), event(source="c")),
        (Filter(all=(Filter(source="a"), Filter(min_bytes=1))), event(source="a", payload=b"1"), event(source="a")),
        (NOT_A, event(source="b"), event(source="a")),
    ],
)
def test_each_condition_alone(wanted: Filter, yes: Event, no: Event | None) -> None:
    """An event that meets it and one that does not."""
    test = wanted.compile()
    assert test(yes)
    assert no is None or not test(no)


def test_conditions_of_one_filter_must_all_hold() -> None:
    """They are joined by `and`."""
    test = Filter(source="shop", min_bytes=1).compile()
    assert test(event(source="shop", payload=b"1"))
    assert not test(event(source="shop"))
    assert not test(event(source="bank", payload=b"1"))


def test_nothing_is_among_none() -> None:
    """`any` of nothing never holds, `all` of nothing always does."""
    assert not Filter(any=()).compile()(event())
    assert Filter(all=()).compile()(event())


def test_a_filter_is_data() -> None:
    """It is equal to its like, is frozen, and goes through JSON and back; in files `not` is written without a dash."""
    inner = Filter(metadata={"n": 1, "ok": True})
    one = build({"priority_min": Priority.HIGH, "not_": {"metadata": {"n": 1, "ok": True}}})
    assert one.not_ == inner
    assert one == Filter.of("filter", {"priority_min": Priority.HIGH, "not_": inner})
    assert one != Filter.of("filter", {"priority_min": Priority.LOW, "not_": inner})
    assert Filter.of("filter", {"priority_min": "HIGH", "not": {"metadata": {"n": 1, "ok": True}}}) == one
    with pytest.raises(ValidationError, match="frozen"):
        one.source = "x"


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"priority": "URGENT"}, "expected 'CRITICAL' or 'HIGH' or 'NORMAL' or 'LOW'"),
        ({"priority": 1}, "expected 'CRITICAL' or 'HIGH' or 'NORMAL' or 'LOW'"),
        ({"sourse": "a"}, "'sourse' is not an option .*did you mean 'source'"),
        ({"min_bytes": "2"}, "expected a whole number"),
        ({"metadata": {"a": None}}, "metadata"),
        ({"any": ({"type": 7},)}, r"any\[0\]\.type"),
    ],
)
def test_a_wrong_filter_is_refused(values: dict[str, object], complaint: str) -> None:
    """Unknown conditions and wrong values, however deep, with the place and the expectation."""
    with pytest.raises(ConfigError, match=complaint):
        Filter.of("filter", values)


def test_filters_may_be_given_as_a_list() -> None:
    """As the error message itself asks for, and as files do."""
    assert Filter.of("filter", {"any": [Filter(source="a")]}) == Filter(any=(Filter(source="a"),))


def test_a_filters_pattern_is_checked() -> None:
    """A malformed type pattern does not match nothing in silence."""
    with pytest.raises(SubscriptionError, match="pattern"):
        Filter(type="order.>.x").compile()
