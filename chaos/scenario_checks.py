"""What a scenario must be besides well-formed: its parts fit each other, and what the operator allows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from squall.chaos.check.expectations import EXPECTATIONS, Latency, Measured, Recovery
from squall.chaos.check.matching import matches_pattern
from squall.chaos.scenario_expect import Entry
from squall.chaos.scenario_models import Load, Subscriber
from squall.core.config import Limits, PluginSection
from squall.core.errors import ConfigError, Problem
from squall.core.options import Loc, did_you_mean
from squall.core.plugin import Plugin
from squall.core.subscription import DROPS
from squall.core.units import format_rate, format_seconds, parse_seconds
from squall.core.yaml_source import Document, Json


@dataclass(frozen=True)
class Names:
    """What may be named in a scenario: its own subscribers, targets, handlers of the operator's, seams by kind."""

    subscribers: Sequence[str]
    targets: Sequence[str]
    handlers: Sequence[str]
    seams: Mapping[str, Collection[str]]


def check_plugins(
    sections: Sequence[PluginSection], installed: Mapping[str, type[Plugin] | str] | None
) -> list[Problem]:
    """Only names that are installed, options that fit, and plugins that can be made of them. `installed` has the class
    of each, or why it cannot be imported; None: nothing is checked."""
    problems: list[Problem] = []
    for section in sections if installed is not None else ():
        kind = installed.get(section.name) if installed is not None else None
        if kind is None:
            hint = did_you_mean(section.name, installed or (), "plugins")
            problems.append(section.problem(f"there is no plugin '{section.name}'", hint))
        elif isinstance(kind, str):
            problems.append(section.problem(kind))
        else:
            problems += _check_made(section, kind)
    return problems


def _check_made(section: PluginSection, kind: type[Plugin]) -> Sequence[Problem]:
    try:
        kind(section.options(kind.Options))
    except ConfigError as error:
        return error.problems
    except Exception as error:  # noqa: BLE001  a stranger's constructor: whatever it raises is its mistake
        return [section.problem(f"plugin {section.name} raised while it was made: {type(error).__name__}: {error}")]
    return ()


def check_proxies_are_the_operators(
    sections: Sequence[PluginSection], installed: Mapping[str, type[Plugin] | str] | None
) -> list[Problem]:
    """Whose server a network's faults are put into is not for a scenario to say."""
    return [
        section.problem(f"the options of {section.name} are the operator's to say", "list it in squall.yaml")
        for section in sections
        if hasattr((installed or {}).get(section.name), "squall_proxies")
    ]


def check_subscribers(document: Document, names: Names, load_s: float | None) -> list[Problem]:
    """The target exists, the code that handlers call exists, and who joins leaves later, within the load."""
    problems: list[Problem] = []
    target = document.at(("target",))
    if isinstance(target, str) and target not in names.targets:
        hint = did_you_mean(target, names.targets, "targets")
        problems.append(document.problem(("target",), f"there is no target '{target}'", hint))
    for name in names.subscribers:
        loc = ("subscribers", name)
        call = document.at((*loc, "handler", "call"))
        if isinstance(call, str) and call not in names.handlers:
            hint = did_you_mean(call, names.handlers, "handlers") or "squall.yaml names no handlers"
            problems.append(document.problem((*loc, "handler", "call"), f"there is no handler '{call}'", hint))
        problems += _check_stay(document, loc, load_s)
        overflow = document.at((*loc, "overflow"))
        if document.at((*loc, "durable")) is True and overflow in DROPS:
            message = f"{overflow} drops events, and what a durable subscriber is owed is kept"
            problems.append(document.problem((*loc, "overflow"), message, "use block, or leave out durable"))
    return problems


def check_something_matches(document: Document, load: Load, subscribers: Mapping[str, Subscriber]) -> list[Problem]:
    """At least one subscriber's pattern matches a type of event that may be drawn: otherwise nothing is tested."""
    types = [event.type for event in load.events if event.weight]
    patterns = [one.pattern for one in subscribers.values()]
    if not types or not patterns or any(matches_pattern(pattern, kind) for pattern in patterns for kind in types):
        return []
    message = f"no subscriber's pattern matches any of the types: {', '.join(types):.100}"
    return [document.problem(("load", "events"), message, f"the patterns are {', '.join(patterns):.100}")]


def _check_stay(document: Document, loc: Loc, load_s: float | None) -> list[Problem]:
    join_s, leave_s = seconds_or_none(document.at((*loc, "join"))), seconds_or_none(document.at((*loc, "leave")))
    problems = []
    for key, at_s in (("join", join_s), ("leave", leave_s)):
        if at_s is not None and load_s is not None and at_s > load_s:
            message = f"{format_seconds(at_s)} is after the load's end at {format_seconds(load_s)}"
            problems.append(document.problem((*loc, key), message))
    if leave_s is not None and leave_s <= (join_s or 0.0):
        problems.append(document.problem((*loc, "leave"), f"leaves before it joins at {format_seconds(join_s or 0.0)}"))
    return problems


def seconds_or_none(value: Json) -> float | None:
    """A duration of a section that may be wrong: then its own model reports it."""
    try:
        return None if value is None else parse_seconds(value)
    except ValueError:
        return None


def check_load(document: Document, load: Load, limits: Limits) -> list[Problem]:
    """Something is published, at a rate and for a time that the operator allows, and the steady phase has a rate."""
    problems: list[Problem] = []
    if load.total == 0:
        problems.append(document.problem(("load", "stages"), "the load publishes nothing"))
    if not any(event.weight for event in load.events):
        problems.append(document.problem(("load", "events"), "every weight is 0, no event could be drawn"))
    for index, stage in enumerate(load.stages):
        for key, rate in (("rate", stage.rate), ("to", stage.to), ("burst", stage.burst)):
            if limits.rate is not None and rate is not None and rate > limits.rate:
                asked = format_rate(rate) if key != "burst" else f"{rate:,} at once"
                message = f"{asked} is above the operator's limit of {format_rate(limits.rate)} (bench.limits.rate)"
                problems.append(document.problem(("load", "stages", index, key), message))
    if limits.duration is not None and load.seconds > limits.duration:
        message = (
            f"the load takes {format_seconds(load.seconds)}, above the operator's limit of "
            f"{format_seconds(limits.duration)} (bench.limits.duration)"
        )
        problems.append(document.problem(("load", "stages"), message))
    if document.at(("steady",)) is not None and not load.stages[0].rate:
        message = "the steady phase runs at the first stage's rate, but that stage has none"
        problems.append(document.problem(("steady",), message, "begin the load with 'for' and 'rate'"))
    return problems


def check_expectations(
    expect: Sequence[Entry],
    steady: Sequence[Entry],
    steady_s: float | None,
    fault_ids: Sequence[str],
    subscribers: Sequence[str],
) -> list[Problem]:
    """What is expected refers to faults and subscribers that exist, and can be judged in its phase."""
    problems = [problem for entry in steady for problem in _check_steady(entry, steady_s)]
    for entry in (*expect, *steady):
        wanted = entry.expectation
        if isinstance(wanted, Recovery):
            problems += _check_recovery(entry, wanted, fault_ids)
        elif isinstance(wanted, Measured):
            for name in wanted.subscribers or ():
                if name not in subscribers:
                    hint = did_you_mean(name, subscribers, "subscribers")
                    problems.append(entry.problem(f"there is no subscriber '{name}'", hint, key="subscribers"))
            if wanted.window == "inside-faults" and not fault_ids:
                problems.append(entry.problem("there are no faults in this scenario", key="window"))
    return problems


def _check_steady(entry: Entry, steady_s: float | None) -> Iterator[Problem]:
    wanted = entry.expectation
    if not isinstance(wanted, Measured):
        hint = f"{', '.join(name for name, kind in EXPECTATIONS.items() if issubclass(kind, Measured))} can"
        yield entry.problem(f"'{wanted.name}' cannot be judged in the steady phase", hint)
    elif wanted.window == "inside-faults":
        yield entry.problem("there are no faults in the steady phase", key="window")
    if isinstance(wanted, Latency) and steady_s is not None:
        limit_s = max(wanted.limits.values(), default=0.0)
        if limit_s >= steady_s:
            message = (
                f"the steady phase takes {format_seconds(steady_s)}: nothing in it could be found later than "
                f"{format_seconds(limit_s)}"
            )
            yield entry.problem(message, "lengthen steady.for, or lower the limit")


def _check_recovery(entry: Entry, wanted: Recovery, fault_ids: Sequence[str]) -> list[Problem]:
    if wanted.fault is None:
        return [] if fault_ids else [entry.problem("there is no fault to recover from")]
    if wanted.fault in fault_ids:
        return []
    hint = did_you_mean(wanted.fault, fault_ids, "faults") or "the scenario has no faults"
    return [entry.problem(f"there is no fault '{wanted.fault}'", hint, key="of")]
