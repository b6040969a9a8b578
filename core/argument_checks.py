"""What is checked of rules, queries, batches and functions when they are made or handed over in Python."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeGuard

from squall.core.errors import ConfigError, InvalidEvent, Problem, SquallError, WiringError
from squall.core.event import EventData, Priority
from squall.core.filters import Filter
from squall.core.patterns import check_pattern, check_type

if TYPE_CHECKING:
    from squall.core.rules import RoutingRule
    from squall.core.store import Query

_MOST = 2**63 - 1
_TEXT = "text"
_PRIORITY = "a squall.Priority, such as Priority.HIGH"
_BOOL = "True or False"
_NUMBER = "a whole number"


def is_async(function: object) -> bool:
    """Is it to be awaited when it is called? An async function, or an object whose `__call__` is one."""
    call = getattr(type(function), "__call__", None)  # noqa: B004  that it can be called is not the question
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def check_async(what: str, function: object, *, wanted: bool) -> None:
    """Raises WiringError for an async function that nobody would await, and for a plain one that would be awaited."""
    if not callable(function) or is_async(function) != wanted:
        expected, got, use = ("an async", "", "guard") if wanted else ("a plain", "the async ", "around")
        raise WiringError(f"{what}: expected {expected} function, got {got}{function!r:.80}: use squall.{use}(…)")


def is_whole(value: object) -> TypeGuard[int]:
    """Is it a whole number, and none of True and False?"""
    return isinstance(value, int) and not isinstance(value, bool)


def check_rule(rule: RoutingRule) -> None:
    """Raises SubscriptionError for its pattern, InvalidEvent for a type that it gives, ConfigError for all else."""
    check_pattern(rule.pattern)
    for name in ("target", "copy_to"):
        if (event_type := getattr(rule, name)) is not None:
            try:
                check_type(event_type)
            except InvalidEvent as error:
                raise InvalidEvent(f"RoutingRule: {name}: {str(error).removeprefix('event_type: ')}") from None
    problems = [
        *_unless(isinstance(rule.drop, bool), "drop", _BOOL, rule.drop),
        *_unless(_none_or(rule.priority, Priority), "priority", _PRIORITY, rule.priority),
        *_unless(
            isinstance(rule.filters, Sequence) and all(isinstance(one, Filter) for one in rule.filters),
            "filters",
            "a list of squall.Filter",
            rule.filters,
        ),
    ]
    if rule.target is None and rule.copy_to is None and rule.priority is None and not rule.drop:
        problems.append(f"expected one of target, drop, copy_to, priority for {rule.pattern!r}, got none of them")
    _raise("RoutingRule", problems)


def check_query(query: Query) -> None:
    """Raises SubscriptionError for its pattern, ConfigError for all else."""
    if query.pattern is not None:
        check_pattern(query.pattern)
    seqs, limit = query.seqs, query.limit
    whole = [(name, getattr(query, name)) for name in ("since_ns", "until_ns", "before_seq")]
    problems = [
        *_unless(_none_or(query.source, str), "source", _TEXT, query.source),
        *_unless(_none_or(query.correlation_id, str), "correlation_id", _TEXT, query.correlation_id),
        *_unless(_none_or(query.priority, Priority), "priority", _PRIORITY, query.priority),
        *(found for name, value in whole for found in _unless(value is None or _kept(value), name, _NUMBER, value)),
        *_unless(_kept(query.after_seq), "after_seq", _NUMBER, query.after_seq),
        *_unless(
            seqs is None or (isinstance(seqs, list | tuple) and all(map(_kept, seqs))),
            "seqs",
            "a tuple of whole numbers",
            seqs,
        ),
        *_unless(isinstance(query.own_id, bool), "own_id", _BOOL, query.own_id),
        *_unless(isinstance(query.newest_first, bool), "newest_first", _BOOL, query.newest_first),
        *_unless(_kept(limit) and limit >= 1, "limit", "a whole number of at least 1", limit),
    ]
    _raise("Query", problems)


def check_kind(error: Callable[[str], SquallError], what: str, kind: type, got: object) -> None:
    """Raises this error where what was handed over is not of this kind."""
    if not isinstance(got, kind):
        raise error(f"{what}: expected a squall.{kind.__name__}, got {got!r:.80}")


def entries(events: Iterable[EventData]) -> Iterator[tuple[int, EventData]]:
    """What a batch consists of, numbered. Raises InvalidEvent for what is none of it."""
    if not isinstance(events, Iterable):
        raise InvalidEvent(f"events: expected a list of squall.EventData, got {events!r:.80}; nothing was stored")
    for number, one in enumerate(events):
        if not isinstance(one, EventData):
            raise InvalidEvent(
                f"events[{number}]: expected a squall.EventData, got {one!r:.80}; nothing of the batch was stored"
            )
        yield number, one


def _none_or(value: object, kind: type) -> bool:
    return value is None or isinstance(value, kind)


def _kept(value: object) -> bool:
    """Is it a number that a store can keep?"""
    return is_whole(value) and -_MOST <= value <= _MOST


def _unless(ok: bool, name: str, expected: str, got: object) -> list[str]:
    return [] if ok else [f"{name}: expected {expected}, got {got!r:.80}"]


def _raise(where: str, problems: Sequence[str]) -> None:
    if problems:
        raise ConfigError([Problem(where, problem) for problem in problems])
