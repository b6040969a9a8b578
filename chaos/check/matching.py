"""The checker's own answer to "does this subscription want this event?".

Written apart from the kernel's, and plainly: a checker that shares the matcher of the system under test shares its
bugs. What the tables cannot answer (a filter on metadata, say) is None: undecidable.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from squall.core.errors import StoreFileError

LEVELS: Mapping[str, int] = {"CRITICAL": 0, "HIGH": 1, "NORMAL": 2, "LOW": 3}
"""Priorities by name; the lower number is the more urgent."""
PRIORITIES = tuple(LEVELS)


def matches_pattern(pattern: str, topic: str) -> bool:
    """`*` is one token, `>` at the end one or more; `$` topics are matched only by patterns that begin with `$` too."""
    if topic.startswith("$") and not pattern.startswith("$"):
        return False
    return _tokens_match(pattern.split("."), topic.split("."))


def _tokens_match(pattern: list[str], topic: list[str]) -> bool:
    if not pattern:
        return not topic
    if pattern == [">"]:
        return len(topic) >= 1
    if not topic:
        return False
    return pattern[0] in ("*", topic[0]) and _tokens_match(pattern[1:], topic[1:])


def matches(pattern: str, filters: str | None, priority_min: int | None, topic: str, priority: int) -> bool | None:
    """Whether a subscription wants an event of this topic and priority; None: the tables do not say.

    `filters` is a JSON list of filters as core defines them, all of which must hold. Raises StoreFileError when it is
    no such list.
    """
    if not matches_pattern(pattern, topic):
        return False
    if priority_min is not None and priority > priority_min:
        return False
    if not filters:
        return True
    try:
        parsed = json.loads(filters)
        return _all(_filter(one, topic, priority) for one in parsed)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreFileError(
            f"subscription.filters: expected a JSON list of filters, got {filters!r} ({error})"
        ) from error


def _filter(wanted: Mapping[str, object], topic: str, priority: int) -> bool | None:
    return _all(_condition(name, value, topic, priority) for name, value in wanted.items())


def _condition(name: str, value: object, topic: str, priority: int) -> bool | None:  # noqa: PLR0911  one case a line
    match name, value:
        case _, None:
            return True
        case "type", str():
            return matches_pattern(value, topic)
        case "priority", int() | str():
            return priority == _level(value)
        case "priority_min", int() | str():
            return priority <= _level(value)
        case "all", list():
            return _all(_filter(one, topic, priority) for one in value)
        case "any", list():
            return _not(_all(_not(_filter(one, topic, priority)) for one in value))
        case "not" | "not_", dict():
            return _not(_filter(value, topic, priority))
        case _:
            return None


def _level(value: int | str) -> int:
    return LEVELS[value] if isinstance(value, str) else value


def _not(answer: bool | None) -> bool | None:
    return None if answer is None else not answer


def _all(answers: Iterable[bool | None]) -> bool | None:
    """False beats undecidable beats true."""
    found = set(answers)
    if False in found:
        return False
    return None if None in found else True
