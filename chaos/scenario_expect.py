"""What a scenario may expect: one options model for each invariant, by the name that stands in the file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from squall.core.errors import ConfigError, Problem
from squall.core.options import Loc, Options, did_you_mean, show
from squall.core.units import Ratio, Seconds
from squall.core.yaml_source import Document

Window = Literal["all", "outside-faults", "inside-faults"]


class Plain(Options):
    """An expectation without options."""

    noun: ClassVar[str] = "this expectation"


class Duplicates(Options):
    """Unexplained begins of an event, as a share of the first ones."""

    noun: ClassVar[str] = "duplicates"

    max_ratio: Ratio = 0.0


class Order(Options):
    """The scope in which deliveries keep the order of the publishes."""

    noun: ClassVar[str] = "order"

    by: Literal["key"] = "key"


class Recovery(Options):
    """Within so long of the heal of the fault (`of` in files; None: of the last one), the oldest owed and unfinished
    event is younger than `age`, and stays so."""

    noun: ClassVar[str] = "recovery"

    fault: str | None = Field(default=None, alias="of")
    within: Annotated[Seconds, Field(gt=0)]
    age: Annotated[Seconds, Field(gt=0)] = 1.0


class Latency(Options):
    """Upper bounds, from the intended time of the publish to the end of the handler. subscribers None: all of them."""

    noun: ClassVar[str] = "latency"

    p50: Seconds | None = None
    p90: Seconds | None = None
    p95: Seconds | None = None
    p99: Seconds | None = None
    p999: Seconds | None = None
    max: Seconds | None = None
    window: Window = "all"
    subscribers: Annotated[tuple[str, ...], Field(min_length=1)] | None = None

    @property
    def bounds(self) -> Mapping[str, float]:
        """Seconds by quantile name, those that are given."""
        given = {name: getattr(self, name) for name in ("p50", "p90", "p95", "p99", "p999", "max")}
        return {name: seconds for name, seconds in given.items() if seconds is not None}

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.bounds:
            raise ValueError("latency needs a bound, such as p99: 200ms")
        return self


class Throughput(Options):
    """At least so many deliveries handled per second, on the average of the window."""

    noun: ClassVar[str] = "throughput"

    min: Annotated[float, Field(gt=0)]
    window: Window = "all"


class ErrorBudget(Options):
    """At most this share of the publishes does not end ok."""

    noun: ClassVar[str] = "error_budget"

    max_ratio: Ratio
    window: Window = "all"


EXPECTATIONS: Mapping[str, type[Options]] = {
    "no_loss": Plain,
    "no_phantom": Plain,
    "no_ghost": Plain,
    "duplicates": Duplicates,
    "order": Order,
    "overlap": Plain,
    "unique_seq": Plain,
    "seq_order": Plain,
    "one_terminal": Plain,
    "max_attempts": Plain,
    "conservation": Plain,
    "intact": Plain,
    "starvation": Plain,
    "recovery": Recovery,
    "latency": Latency,
    "throughput": Throughput,
    "error_budget": ErrorBudget,
}
"""What squall itself can judge."""

MEASURED: Collection[str] = ("latency", "throughput", "error_budget")
"""What can be said of a phase without faults, and so expected of the steady phase."""


@dataclass(frozen=True)
class Expectation:
    """One entry of an `expect:` list; `options` is an instance of its name's model."""

    name: str
    options: Options
    document: Document
    loc: Loc

    def problem(self, message: str, hint: str = "", *, key: str | None = None) -> Problem:
        """A Problem at this entry, or at the value of its option `key`."""
        if key is not None and (*self.loc, key) in self.document.values:
            return self.document.problem((*self.loc, key), message, hint)
        return self.document.problem(self.loc, message, hint)


def read_expectations(
    document: Document, loc: Loc, known: Mapping[str, type[Options]]
) -> tuple[tuple[Expectation, ...], list[Problem]]:
    """The list at loc, each entry `name` or `name: {options}`, and everything that is wrong with it."""
    entries = document.at(loc)
    found: list[Expectation] = []
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
            options = document.fit({} if data is None else data, known[name], here, name)
        except ConfigError as error:
            problems.extend(error.problems)
        else:
            found.append(Expectation(name, options, document, here))
    return tuple(found), problems
