"""The `expect:` lists of a scenario, each entry read as the model of what it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from squall.chaos.check.expectations import Expectation
from squall.core.errors import ConfigError, Problem
from squall.core.options import Loc, did_you_mean, show
from squall.core.yaml_source import Document

Expectations = Mapping[str, type[Expectation]]
"""What may be expected: models by the names that stand in files."""


@dataclass(frozen=True)
class Entry:
    """One entry of an `expect:` list: what is expected, and where that stands."""

    expectation: Expectation
    document: Document
    loc: Loc

    def problem(self, message: str, hint: str = "", *, key: str | None = None) -> Problem:
        """A Problem at this entry, or at the value of its option `key`."""
        if key is not None and (*self.loc, key) in self.document.values:
            return self.document.problem((*self.loc, key), message, hint)
        return self.document.problem(self.loc, message, hint)


def read_expectations(document: Document, loc: Loc, known: Expectations) -> tuple[tuple[Entry, ...], list[Problem]]:
    """The list at loc, each entry `name` or `name: {options}`, and everything that is wrong with it."""
    entries = document.at(loc)
    found: list[Entry] = []
    problems: list[Problem] = []
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        here = (*loc, index)
        if isinstance(entry, str):
            name, data = entry, None
        elif isinstance(entry, dict) and len(entry) == 1:
            ((name, data),) = entry.items()
            here = (*here, name)
        else:
            got = "several" if isinstance(entry, dict) and entry else show(entry)
            problems.append(document.problem(here, f"expected a name such as no_loss, or '- name: {{…}}', got {got}"))
            continue
        if name not in known:
            hint = did_you_mean(name, known, "expectations")
            problems.append(document.problem((*loc, index), f"there is no expectation '{name}'", hint, key=name))
            continue
        try:
            expectation = document.fit({} if data is None else data, known[name], here, name)
        except ConfigError as error:
            problems.extend(error.problems)
        else:
            found.append(Entry(expectation, document, here))
    return tuple(found), problems
