"""The `faults:` list of a scenario: its entries checked against the installed kinds, random schedules drawn."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from squall.chaos.scenario_models import FaultSection, RandomChoice, RandomEntry
from squall.core.errors import ConfigError, Problem, WiringError
from squall.core.fault import Fault, Process
from squall.core.options import Loc, Options, did_you_mean
from squall.core.units import format_seconds
from squall.core.yaml_source import Document

Kinds = Mapping[str, Mapping[str, type[Fault]]]
"""Fault classes by kind of seam (`handler`, `storage`), then by name."""

_OWN_KEYS = frozenset(field.serialization_alias or name for name, field in FaultSection.model_fields.items())
_CHOICE_KEYS = frozenset(RandomChoice.model_fields)


@dataclass(frozen=True)
class PlannedFault:
    """One fault of a run. begin_s and end_s count from the start of the load; `on` is the seam's name; `fault` has the
    options of its kind; it acts on each call with `probability`."""

    id: str
    begin_s: float
    end_s: float
    do: str
    on: str
    probability: float
    fault: Fault


@dataclass(frozen=True)
class Place:
    """Where a scenario's faults may act: installed kinds, seams by kind (None: only the target knows them), what the
    operator allows (None: everything), how long the load lasts (None: not known, since its section is wrong), and what
    to do where that is too short."""

    kinds: Kinds
    seams: Mapping[str, Collection[str]]
    allowed: Collection[str] | None
    load_s: float | None
    too_short: str = ""


def by_seam(faults: Sequence[type[Fault]]) -> Kinds:
    """Fault classes by the kind of seam they act in and by name. Raises WiringError when a name is there twice."""
    kinds: dict[str, dict[str, type[Fault]]] = {}
    for fault in faults:
        named = kinds.setdefault(fault.kind.__name__.lower(), {})
        if named.setdefault(fault.name, fault) is not fault:
            first = named[fault.name]
            raise WiringError(
                f"two faults in {fault.kind.__name__.lower()} are called '{fault.name}': "
                f"{first.__module__}.{first.__name__} and {fault.__module__}.{fault.__name__}"
            )
    return kinds


def read_faults(document: Document, place: Place, seed: int) -> tuple[tuple[PlannedFault, ...], list[Problem]]:
    """The faults that the document plans, in the order of their begin, and everything that is wrong with the list.

    A random schedule is drawn from the seed and its own id alone: adding another fault changes nothing in it.
    """
    entries = document.at(("faults",))
    found: list[PlannedFault] = []
    problems: list[Problem] = []
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, dict):
            read = _random if "random" in entry else _single
            try:
                planned = read(document, ("faults", index), place, seed)
            except ConfigError as error:
                problems.extend(error.problems)
                continue
            for fault in planned:
                if any(fault.id == other.id for other in found):
                    problems.append(document.problem(("faults", index, "id"), f"there are two faults '{fault.id}'"))
                if (other := next((one for one in found if _collide(one, fault)), None)) is not None:
                    message = (
                        f"{fault.id} ({format_seconds(fault.begin_s)} to {format_seconds(fault.end_s)}) and {other.id} "
                        f"({format_seconds(other.begin_s)} to {format_seconds(other.end_s)}) act on {fault.on} at once"
                    )
                    hint = "let one end before the other begins" + ("; or try another seed" if planned[1:] else "")
                    problems.append(document.problem(("faults", index), message, hint))
                found.append(fault)
    told = [number for number, problem in enumerate(problems) if problem.hint == place.too_short]
    problems = [replace(one, hint="") if number in told[1:] else one for number, one in enumerate(problems)]
    return tuple(sorted(found, key=lambda fault: (fault.begin_s, fault.id))), problems


def _collide(one: PlannedFault, other: PlannedFault) -> bool:
    """Whether both would have one process at a time: what one has ended, the other can neither end nor start."""
    alike = one.on == other.on and issubclass(one.fault.kind, Process)
    return alike and one.begin_s < other.end_s and other.begin_s < one.end_s


def _single(document: Document, loc: Loc, place: Place, seed: int) -> list[PlannedFault]:
    problems: list[Problem] = []
    fault = _kind(document, loc, place, _OWN_KEYS, problems)
    try:
        section = document.validate(FaultSection, loc, noun=_noun(document, loc))
    except ConfigError as error:
        raise ConfigError([*error.problems, *problems]) from error
    load_s = place.load_s
    end_s = section.at + section.duration if section.duration is not None else load_s
    if load_s is not None and section.at >= load_s:
        message = f"the load ends at {format_seconds(load_s)}, before the fault"
        problems.append(document.problem((*loc, "at"), message, place.too_short))
    elif load_s is not None and end_s is not None and end_s > load_s + 1e-9:
        message = f"the fault would last until {format_seconds(end_s)}, the load ends at {format_seconds(load_s)}"
        problems.append(document.problem((*loc, "for"), message, place.too_short))
    if problems or fault is None:
        raise ConfigError(problems)
    ends = section.at if end_s is None else end_s
    return [PlannedFault(section.id, section.at, ends, section.do, section.on, section.probability, fault)]


def _random(document: Document, loc: Loc, place: Place, seed: int) -> list[PlannedFault]:
    problems: list[Problem] = []
    inside = (*loc, "random")
    listed = document.at((*inside, "of"))
    faults = [
        _kind(document, (*inside, "of", index), place, _CHOICE_KEYS, problems)
        for index, entry in enumerate(listed if isinstance(listed, list) else ())
        if isinstance(entry, dict)
    ]
    try:
        section = document.validate(RandomEntry, loc).random
    except ConfigError as error:
        raise ConfigError([*error.problems, *problems]) from error
    first_s, last_s = section.between
    if place.load_s is not None and last_s > place.load_s:
        message = f"reaches to {format_seconds(last_s)}, the load ends at {format_seconds(place.load_s)}"
        problems.append(document.problem((*inside, "between"), message, place.too_short))
    if problems:
        raise ConfigError(problems)
    random = Random(f"{seed}:faults:{section.id}")
    planned: list[PlannedFault] = []
    for number in range(1, section.count + 1):
        chosen = random.randrange(len(section.choices))
        choice, fault = section.choices[chosen], faults[chosen]
        lasts_s = round(random.uniform(*section.duration), 3)
        begin_s = round(random.uniform(first_s, last_s - lasts_s), 3)
        if fault is not None:
            fault_id = f"{section.id}-{number}"
            end_s = min(begin_s + lasts_s, last_s)
            planned.append(PlannedFault(fault_id, begin_s, end_s, choice.do, choice.on, choice.probability, fault))
    return planned


def _noun(document: Document, loc: Loc) -> str:
    do = document.at((*loc, "do"))
    return f"the fault {do}" if isinstance(do, str) else FaultSection.noun


def _kind(
    document: Document, loc: Loc, place: Place, own_keys: frozenset[str], problems: list[Problem]
) -> Fault | None:
    """The fault with its own options; None, and the problems, where seam, kind or options are wrong."""
    on, do = document.at((*loc, "on")), document.at((*loc, "do"))
    if not isinstance(on, str) or not isinstance(do, str):
        return None  # reported by the section's own model
    prefix, colon, name = on.partition(":")
    if not colon:
        example = next((f"{kind}:{name}" for kind, names in place.seams.items() for name in names), "handler:billing")
        problems.append(document.problem((*loc, "on"), f"expected kind:name such as {example}, got '{on}'"))
        return None
    prefixes = {_prefix(named): kind for kind, named in place.kinds.items()}
    if prefix not in prefixes:
        hint = did_you_mean(prefix, prefixes, "kinds")
        problems.append(document.problem((*loc, "on"), f"there are no faults for '{prefix}'", hint))
        return None
    kind = prefixes[prefix]
    if place.allowed is not None and kind not in place.allowed:
        allowed = ", ".join(place.allowed) or "none"
        message = f"faults in {kind} are not allowed here; bench.allow_faults: {allowed}"
        problems.append(document.problem((*loc, "on"), message))
    if kind in place.seams and name not in place.seams[kind]:
        hint = did_you_mean(name, place.seams[kind], f"{kind}s")
        problems.append(document.problem((*loc, "on"), f"there is no {kind} '{name}'", hint))
    if do not in place.kinds[kind]:
        elsewhere = [other for other, named in place.kinds.items() if do in named]
        hint = f"it acts in {', '.join(elsewhere)}" if elsewhere else did_you_mean(do, place.kinds[kind], "faults")
        problems.append(document.problem((*loc, "do"), f"there is no fault '{do}' in {kind}", hint))
        return None
    fault = place.kinds[kind][do]
    if not fault.per_call and document.at((*loc, "probability")) is not None:
        instead = "say toxicity" if "toxicity" in fault.model_fields else ""
        message = f"the fault {do} does not act on calls one by one, so it has no probability"
        problems.append(document.problem(loc, message, instead, key="probability"))
    return _with_options(document, loc, fault, own_keys, problems)


def _prefix(named: Mapping[str, type[Fault]]) -> str:
    """What a scenario's `on` says before the colon."""
    return next(iter(named.values())).kind.prefix


def _with_options(
    document: Document, loc: Loc, fault: type[Fault], own_keys: frozenset[str], problems: list[Problem]
) -> Fault | None:
    shared = own_keys & set(_names(fault))
    if shared:
        raise WiringError(f"the fault '{fault.name}' has options that every fault has: {', '.join(sorted(shared))}")
    section = document.at(loc)
    data = {key: value for key, value in section.items() if key not in own_keys} if isinstance(section, dict) else {}
    unknown = [key for key in data if key not in _names(fault)]
    for key in unknown:
        hint = did_you_mean(key, [*own_keys, *_names(fault)], "options")
        problems.append(document.problem(loc, f"'{key}' is not an option of the fault {fault.name}", hint, key=key))
        del data[key]
    try:
        return document.fit(data, fault, loc, f"the fault {fault.name}")
    except ConfigError as error:
        problems.extend(error.problems)
        return None


def _names(model: type[Options]) -> list[str]:
    return [field.serialization_alias or name for name, field in model.model_fields.items()]
