"""Event types, subscription patterns, and the token trie that finds which patterns match a type.

Tokens are separated by dots. In a pattern `*` stands for exactly one token and a final `>` for one or more.
Types that begin with `$` are squall's own: they cannot be published, and a wildcard in the first place does not match
them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from squall.core.errors import InvalidEvent, SubscriptionError

MAX_TOKENS = 16
MAX_CHARACTERS = 256
_TOKEN = re.compile(r"[^\s.*>\x00-\x1f\x7f]+")
T = TypeVar("T")


def check_type(event_type: object) -> str:
    """Raises InvalidEvent unless event_type can be published."""
    if problem := _problem(event_type, wildcards=False):
        raise InvalidEvent(f"event_type: {problem}, got {event_type!r:.80}")
    return str(event_type)


def check_pattern(pattern: object) -> str:
    """Raises SubscriptionError unless pattern can be subscribed to."""
    if problem := _problem(pattern, wildcards=True):
        raise SubscriptionError(f"pattern: {problem}, got {pattern!r:.80}")
    return str(pattern)


def _problem(text: object, wildcards: bool) -> str | None:
    if not isinstance(text, str) or not text:
        return "expected tokens separated by dots, such as order.created"
    tokens = text.split(".")
    if len(text) > MAX_CHARACTERS or len(tokens) > MAX_TOKENS:
        return f"expected at most {MAX_TOKENS} tokens and {MAX_CHARACTERS} characters"
    if text.startswith("$") and not wildcards:
        return "expected one that does not begin with '$': such types are squall's own"
    for index, token in enumerate(tokens):
        if wildcards and (token == "*" or (token == ">" and index == len(tokens) - 1)):
            continue
        if not _TOKEN.fullmatch(token):
            return (
                f"token {index + 1} must be text without spaces, '*' alone or a final '>'"
                if wildcards
                else (f"token {index + 1} must be text without spaces, dots, '*' and '>'")
            )
    return None


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """A function that says whether a type matches the pattern."""
    check_pattern(pattern)
    if "*" not in pattern and ">" not in pattern:
        return pattern.__eq__
    parts = [re.escape(t) if t not in ("*", ">") else (r"[^.]+" if t == "*" else r".+") for t in pattern.split(".")]
    if parts[0] in (r"[^.]+", r".+"):
        parts[0] = r"(?!\$)" + parts[0]
    matches = re.compile(r"\.".join(parts)).fullmatch
    return lambda event_type: matches(event_type) is not None


class _Node(Generic[T]):
    __slots__ = ("children", "here", "rest")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.here: list[T] = []
        self.rest: list[T] = []


class PatternTrie(Generic[T]):
    """Values by pattern; `match` walks tokens, so its cost follows what matches and not how many there are."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, pattern: str, value: T) -> None:
        node, rest = self._place(pattern)
        (node.rest if rest else node.here).append(value)

    def remove(self, pattern: str, value: T) -> None:
        node, rest = self._place(pattern)
        (node.rest if rest else node.here).remove(value)

    def _place(self, pattern: str) -> tuple[_Node[T], bool]:
        node = self._root
        for token in pattern.split("."):
            if token == ">":
                return node, True
            node = node.children.setdefault(token, _Node())
        return node, False

    def __iter__(self) -> Iterator[T]:
        """Every value, in no particular order."""
        nodes = [self._root]
        for node in nodes:
            yield from (*node.here, *node.rest)
            nodes += node.children.values()

    def match(self, event_type: str) -> Iterator[T]:
        """Every value whose pattern matches event_type, in no particular order."""
        yield from self._walk(self._root, event_type.split("."), 0)

    def _walk(self, node: _Node[T], tokens: list[str], index: int) -> Iterator[T]:
        if index == len(tokens):
            yield from node.here
            return
        own = index == 0 and tokens[0].startswith("$")
        if not own:
            yield from node.rest
        for token in (tokens[index],) if own else (tokens[index], "*"):
            child = node.children.get(token)
            if child is not None:
                yield from self._walk(child, tokens, index + 1)
