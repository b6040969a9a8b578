"""Scenarios are validated whole: what each key means, and where each mistake stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from squall.chaos.catalogue import load_classes
from squall.chaos.check.expectations import Latency, Recovery
from squall.chaos.scenario import Known, Scenario, drain_limits, load_scenario, make_scenario
from squall.chaos.scenario_faults import by_seam
from squall.core.config import Config, make_config
from squall.core.errors import ConfigError, WiringError
from squall.core.event import Priority
from squall.core.fault import Fault, Handler, Storage
from squall.core.units import Seconds
from squall.core.yaml_source import parse_document

EXAMPLE = Path(__file__).parent / "scenario_files" / "handler-outage.yaml"


class ExceptionFault(Fault):
    kind = Handler
    name = "exception"
    message: str = "injected"


class SlowFault(Fault):
    kind = Handler
    name = "slow"
    delay: Annotated[Seconds, Field(gt=0)] = 1.0


class WriteError(Fault):
    kind = Storage
    name = "write-error"


KNOWN = Known(
    faults=by_seam([ExceptionFault, SlowFault, WriteError]),
    seams={"storage": ["events"]},
    plugins=load_classes(),
)
MINIMAL = """\
version: 1
name: small
subscribers: {all: {pattern: ">"}}
load: {stages: [{for: 10s, rate: 5}], events: [{type: a.b}]}
"""


def scenario(text: str, *sets: str, config: Config | None = None, seed: int | None = None) -> Scenario:
    document = parse_document(text, "s.yaml")
    return make_scenario(document, sets=sets, seed=seed, config=config, known=KNOWN)


def complaints(text: str, *sets: str, config: Config | None = None) -> list[str]:
    """The problems' first lines, each with its hint."""
    with pytest.raises(ConfigError) as caught:
        scenario(text, *sets, config=config)
    problems = caught.value.problems
    return [re.sub(r"\n.*", "", str(p)) + (f" | {p.hint}" if p.hint and p.excerpt else "") for p in problems]


def complaint(text: str, *sets: str, config: Config | None = None) -> str:
    (only,) = complaints(text, *sets, config=config)
    return only


def changed(old: str, new: str) -> str:
    text = EXAMPLE.read_text()
    assert text.count(old) == 1, old
    return text.replace(old, new)


def operator(text: str) -> Config:
    return make_config(parse_document(f"version: 1\n{text}", "squall.yaml"), Path())


def test_the_documented_scenario_is_read_with_every_key() -> None:
    """The example of the bench page, value by value."""
    read = load_scenario(EXAMPLE, known=KNOWN)
    assert (read.name, read.seed, read.target, read.vars) == ("handler-outage", 42, "in-process", {"rate": 2000})
    assert [section.name for section in read.plugins] == ["retry"]
    billing, audit = read.subscribers["billing"].spec("billing"), read.subscribers["audit"]
    assert (billing.pattern, billing.durable, billing.concurrency, billing.timeout_s) == ("order.>", True, 32, 2.0)
    assert read.subscribers["billing"].handler.latency == 0.005
    assert (audit.pattern, audit.join, audit.leave) == ("*.created", 10.0, 40.0)
    assert read.steady is not None
    assert (read.steady.seconds, read.steady.expect[0]) == (5.0, Latency(p99=0.1))
    assert read.steady_rate == 100
    stages = [(stage.seconds, stage.rate, stage.to, stage.burst, stage.events) for stage in read.load.stages]
    assert stages == [(5.0, 100, 2000, None, 5250), (40.0, 2000, None, None, 80_000), (0.0, None, None, 5000, 5000)]
    assert (read.load.seconds, read.load.total) == (45.0, 90_250)
    created, paid = read.load.events
    assert created.key is not None
    assert (created.type, created.weight, created.key.count, created.size) == ("order.created", 3, 200, 200)
    assert (paid.priority, paid.key) == (Priority.HIGH, None)
    outage, refuse = read.faults
    assert (outage.id, outage.begin_s, outage.end_s, outage.on, outage.probability) == (
        ("outage", 15.0, 35.0, "handler:billing", 0.3)
    )
    assert (type(outage.fault), type(refuse.fault), refuse.seam_kind) == (ExceptionFault, WriteError, "storage")
    assert read.abort is not None
    assert (read.abort.publish_errors, read.abort.duration) == (0.9, 20.0)
    assert read.expect is not None
    assert [entry.name for entry in read.expect] == ["no_loss", "order", "duplicates", "recovery", "latency"]
    recovery, latency = read.expect[3], read.expect[4]
    assert isinstance(recovery, Recovery)
    assert isinstance(latency, Latency)
    assert (recovery.fault, recovery.within, recovery.age) == ("outage", 10.0, 2.0)
    assert (latency.limits, latency.window) == ({"p99": 0.2}, "outside-faults")


def test_what_a_scenario_leaves_out_has_defaults() -> None:
    """Four keys are enough; without `expect` the target's claims are judged."""
    read = scenario(MINIMAL)
    assert (read.seed, read.expect, read.steady, read.faults, read.plugins) == (1, None, None, (), ())
    assert scenario(MINIMAL + "expect: []\n").expect == ()
    assert scenario(MINIMAL, seed=7).seed == 7


def test_a_variable_keeps_its_type_where_it_stands_alone() -> None:
    """`${x}` is the value; inside a longer string it is text."""
    text = MINIMAL.replace("rate: 5", 'rate: "${x}"') + 'about: "at ${x}/s, ${on}"\nvars: {x: 2.5, on: true}\n'
    read = scenario(text)
    assert read.load.stages[0].rate == 2.5
    assert read.about == "at 2.5/s, true"


def test_set_overrides_a_variable_with_a_yaml_scalar() -> None:
    """On the command line a number is a number and quotes make text."""
    text = MINIMAL.replace("rate: 5", 'rate: "${x}"') + "about: ${y}\nvars: {x: 2, y: z}\n"
    read = scenario(text, "x=50", "y='7'")
    assert (read.load.stages[0].rate, read.about, read.vars) == (50, "7", {"x": 50, "y": "7"})
    assert complaint(text, "x=fast") == "s.yaml:4:34: load.stages[0].rate: expected a number, got the text 'fast'"


def test_a_misspelt_variable_is_told_with_the_nearest_name() -> None:
    """In the file at its place, on the command line by its name, and nothing else is told about that place."""
    text = MINIMAL.replace("rate: 5", 'rate: "${rat}"') + "vars: {rate: 2}\n"
    place = "s.yaml:4:34: load.stages[0].rate: there is no variable 'rat' | did you mean 'rate'?"
    assert complaint(text) == place
    assert complaints(text, "raet=5", "x") == [
        "--set raet: there is no variable 'raet' (did you mean 'rate'?)",
        "--set x: expected name=value",
        place,
    ]
    assert complaint(MINIMAL, "x=1") == "--set x: there is no variable 'x' (the scenario has no vars)"


def test_nothing_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of the environment is not a variable of the scenario, and `env:` is text."""
    monkeypatch.setenv("SECRET", "1")
    assert "there is no variable 'SECRET'" in complaint(MINIMAL + "about: ${SECRET}\n")
    assert scenario(MINIMAL + "about: env:SECRET\n").about == "env:SECRET"


def test_the_mistakes_that_people_make_are_told_all_at_once() -> None:
    """An unknown key in one section does not hide a wrong name in another."""
    text = changed("    pattern: order.>", "    patern: order.>").replace('"handler:billing"', '"handler:bilings"')
    assert complaints(text) == [
        "s.yaml:11:3: subscribers.billing: 'pattern' is required in a subscriber",
        "s.yaml:12:5: subscribers.billing: 'patern' is not an option of a subscriber | did you mean 'pattern'?",
        "s.yaml:30:56: faults[0].on: there is no handler 'bilings' | did you mean 'billing'?",
    ]


@pytest.mark.parametrize(
    ("old", "new", "caret", "told"),
    [
        ("name: handler-outage", "name: Handler Outage", "Handler", "name: expected 1 to 64 of a-z, 0-9 and -"),
        ("name: handler-outage", "name: ../../etc", "..", "name: expected 1 to 64 of a-z, 0-9 and -"),
        ("version: 1", "version: 2", "2", "version: expected 1, got 2"),
        ("seed: 42", "seed: -1", "-1", "seed: expected at least 0, got -1"),
        ("target: in-process", "target: orders", "orders", "target: there is no target 'orders'"),
        ("- retry:", "- retri:", "retri", "plugins[0].retri: there is no plugin 'retri' | did you mean 'retry'?"),
        ("order.>", "order.>.x", "order.>", "subscribers.billing.pattern: token 2 must be text"),
        ("pattern: order.>", "pattern: >", ">", "subscribers.billing.pattern: expected a pattern such as order.>"),
        ("  audit:", "  au dit:", "au", "subscribers: expected 1 to 64 of letters, digits, _ and -, got 'au dit'"),
        ("5ms}", "5ms, call: shop}", "shop", "subscribers.billing.handler.call: there is no handler 'shop'"),
        ("join: 10s", "join: 50s", "50s", "subscribers.audit.join: 50s is after the load's end at 45s"),
        ("leave: 40s", "leave: 10s", "10s}", "subscribers.audit.leave: leaves before it joins at 10s"),
        ("{for: 40s, rate", "{for: 40s, burst: 1, rate", "{for", "load.stages[1]: a stage is a burst, or has a rate"),
        ("{burst: 5000}", "{rate: 5000}", "{rate", "load.stages[2]: a stage needs 'for' and 'rate', or 'burst'"),
        ("{burst: 5000}", "{burst: 0}", "0}", "load.stages[2].burst: expected at least 1, got 0"),
        ("rate: 100,", "rate: 0,", "steady:", "steady: the steady phase runs at the first stage's rate"),
        ("type: order.paid", "type: order.*", "order.*", "load.events[1].type: token 2 must be text"),
        (
            "type: order.paid",
            "type: $order",
            "$order",
            "load.events[1].type: expected one that does not begin with '$'",
        ),
        ("HIGH", "high", "high", "load.events[1].priority: expected one of CRITICAL, HIGH"),
        ("count: 200", "count: 0", "0}", "load.events[0].key.count: expected at least 1, got 0"),
        ("exception", "excepton", "excepton", "faults[0].do: there is no fault 'excepton' in handler | did you mean"),
        (
            "exception",
            "write-error",
            "write-error",
            "faults[0].do: there is no fault 'write-error' in handler | it act",
        ),
        ("storage:events", "storage:event", '"stor', "faults[1].on: there is no storage 'event' | did you mean 'even"),
        ("storage:events", "storag:events", '"stor', "faults[1].on: there are no faults for 'storag' | did you mean"),
        ("storage:events", "storage", '"stor', "faults[1].on: expected kind:name such as handler:billing, got 'sto"),
        ("id: refuse", "id: outage", "outage", "faults[1].id: there are two faults 'outage'"),
        ("at: 30s", "at: 45s", "45s", "faults[1].at: the load ends at 45s, before the fault"),
        ("for: 3s", "for: 16s", "16s", "faults[1].for: the fault would last until 46s, the load ends at 45s"),
        ("probability: 0.3", "probability: 30", "30}", "faults[0].probability: expected at most 1, got 30"),
        ("probability: 0.3", "delay: 1s", "delay", "faults[0]: 'delay' is not an option of the fault exception"),
        ("publish_errors: 0.9", "publish_errors: 0", "0,", "abort.publish_errors: expected more than 0, got 0"),
        ("- no_loss", "- no_los", "no_los", "expect[0]: there is no expectation 'no_los' | did you mean 'no_loss'?"),
        ("- order: {by: key}", "- ordre: {by: key}", "ordre", "expect[1]: there is no expectation 'ordre'"),
        ("by: key", "by: priority", "priority", "expect[1].order.by: expected 'key', got 'priority'"),
        ("of: outage", "of: outrag", "outrag", "expect[3].recovery.of: there is no fault 'outrag' | did you mean 'ou"),
        ("within: 10s", "within: 0", "0,", "expect[3].recovery.within: expected more than 0, got 0"),
        (
            "- latency: {p99: 200ms, window",
            "- latency: {window",
            "latency",
            "expect[4].latency: latency needs a bound, such as p99: 2",
        ),
        ("p99: 200ms", "p98: 200ms, p99: 1", "p98", "expect[4].latency: 'p98' is not an option of latency"),
        (
            "[{latency: {p99: 100ms}}]",
            "[{latency: {p99: 5s}}]",
            "latency",
            "steady.expect[0].latency: the steady phase",
        ),
        ("[{latency: {p99: 100ms}}]", "[no_loss]", "no_loss", "steady.expect[0]: 'no_loss' cannot be judged in the s"),
    ],
)
def test_each_mistake_is_placed_and_said(old: str, new: str, caret: str, told: str) -> None:
    """One change in the documented scenario is told at the text `caret`, in or before the changed place."""
    original, text = EXAMPLE.read_text(), changed(old, new)
    begin = text.find(caret, original.index(old))
    begin = begin if 0 <= begin < original.index(old) + len(new) else text.index(caret)
    before = text[:begin].split("\n")
    place = f"s.yaml:{len(before)}:{len(before[-1]) + 1}: "
    assert [line for line in complaints(text) if line.startswith(place + told)], complaints(text)


def test_one_mistake_makes_one_problem() -> None:
    """What follows from a mistake is not told as another: a fault with a wrong option is still a fault."""
    assert len(complaints(changed("probability: 0.3", "probability: 30"))) == 1
    assert len(complaints(changed("do: exception", "do: excepton"))) == 1
    assert len(complaints(changed("{burst: 5000}", "{burst: no}"))) == 1
    assert len(complaints(changed("  - no_loss", "  - 5"))) == 1
    assert len(complaints(changed("  - {id: refuse,", "  - 5\n  - {id: refuse,"))) == 1


def test_the_operators_limits_and_allowances_bind_the_scenario() -> None:
    """Rate, burst, duration and kinds of fault are the operator's to grant."""
    config = operator("bench: {allow_faults: [handler], limits: {rate: 1500, duration: 30s}}")
    limit = "is above the operator's limit of 1,500/s (bench.limits.rate)"
    assert complaints(EXAMPLE.read_text(), config=config) == [
        "s.yaml:22:3: load.stages: the load takes 45s, above the operator's limit of 30s (bench.limits.duration)",
        f"s.yaml:23:32: load.stages[0].to: 2,000/s {limit}",
        f"s.yaml:24:24: load.stages[1].rate: 2,000/s {limit}",
        f"s.yaml:25:15: load.stages[2].burst: 5,000 at once {limit}",
        "s.yaml:31:57: faults[1].on: faults in storage are not allowed here; bench.allow_faults: handler",
    ]


def test_targets_and_handlers_are_the_operators_by_name() -> None:
    """A target of squall.yaml and code under `handlers:` may be named; others are told with the nearest."""
    config = operator('targets: {orders: {kind: x}}\nhandlers: {shop: "a:b"}\n')
    text = MINIMAL.replace('pattern: ">"', 'pattern: ">", handler: {call: shop}') + "target: orders\n"
    assert scenario(text, config=config).target == "orders"
    assert "there is no handler 'shp' | did you mean 'shop'?" in complaint(text.replace("shop", "shp"), config=config)
    assert "there is no target 'order' | did you mean 'orders'?" in complaint(
        text.replace("target: orders", "target: order"), config=config
    )


def test_an_empty_load_is_refused() -> None:
    """Nothing published, or no event that could be drawn, would prove nothing."""
    assert "the load publishes nothing" in complaint(MINIMAL.replace("rate: 5", "rate: 0"))
    assert "every weight is 0" in complaint(MINIMAL.replace("{type: a.b}", "{type: a.b, weight: 0}"))
    assert "expected a length of at least 1, got 0" in complaint(MINIMAL.replace("[{type: a.b}]", "[]"))
    assert "expected a length of at least 1, got 0" in complaint(MINIMAL.replace('{all: {pattern: ">"}}', "{}"))


def test_a_fault_takes_its_own_options_and_lasts_to_the_end_without_for() -> None:
    """Unknown, wrong and out-of-range options of the kind are placed like any other key."""
    fault = "faults: [{id: f, at: 2s, do: slow, on: handler:all, delay: 50ms}]\n"
    (planned,) = scenario(MINIMAL + fault).faults
    assert planned.fault == SlowFault(delay=0.05)
    assert (planned.begin_s, planned.end_s) == (2.0, 10.0)
    assert complaint(MINIMAL + fault.replace("50ms", "0")).startswith(
        "s.yaml:5:60: faults[0].delay: expected more than"
    )
    told = complaint(MINIMAL + fault.replace("delay:", "dela:"))
    assert told == "s.yaml:5:53: faults[0]: 'dela' is not an option of the fault slow | did you mean 'delay'?"


RANDOM = (
    "faults: [{random: {id: storm, count: 5, between: [1s, 9s], for: [1s, 2s], of: [{do: slow, on: handler:all}]}}]\n"
)


def test_a_random_schedule_follows_the_seed_and_stays_in_its_bounds() -> None:
    """The same seed draws the same faults, another seed others."""
    drawn = scenario(MINIMAL + RANDOM, seed=3).faults
    assert drawn == scenario(MINIMAL + RANDOM, seed=3).faults
    assert drawn != scenario(MINIMAL + RANDOM, seed=4).faults
    assert sorted(fault.id for fault in drawn) == [f"storm-{number}" for number in range(1, 6)]
    assert [fault.begin_s for fault in drawn] == sorted(fault.begin_s for fault in drawn)
    for fault in drawn:
        assert 1.0 <= fault.begin_s < fault.end_s <= 9.0
        assert 1.0 - 1e-6 <= fault.end_s - fault.begin_s <= 2.0 + 1e-6
        assert fault.on == "handler:all"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("9s", "11s", "faults[0].random.between: reaches to 11s, the load ends at 10s"),
        ("[1s, 9s]", "[1s, 2s]", "faults[0].random: 'between' is shorter than the longest duration"),
        ("[1s, 2s]", "[2s, 1s]", "faults[0].random: 'for' gives the shortest duration first"),
        ("do: slow", "do: slw", "faults[0].random.of[0].do: there is no fault 'slw' in handler"),
        ("handler:all", "handler:al", "faults[0].random.of[0].on: there is no handler 'al'"),
        ("count", "cuont", "faults[0].random: 'cuont' is not an option of a random schedule"),
    ],
)
def test_a_random_schedule_is_validated_like_everything_else(old: str, new: str, words: str) -> None:
    """Bounds, kinds, seams and keys."""
    assert sum(words in told for told in complaints(MINIMAL + RANDOM.replace(old, new))) == 1


def test_expectations_about_faults_need_faults() -> None:
    """Recovery from nothing, and a window inside no fault."""
    assert "there is no fault to recover from" in complaint(MINIMAL + "expect: [{recovery: {within: 1s}}]\n")
    assert "the scenario has no faults" in complaint(MINIMAL + "expect: [{recovery: {of: f, within: 1s}}]\n")
    text = "expect: [{latency: {p99: 1s, window: inside-faults}}]\n"
    assert "there are no faults in this scenario" in complaint(MINIMAL + text)


def test_latency_may_be_expected_of_single_subscribers() -> None:
    """Healthy neighbours are judged alone; an unknown one is told."""
    text = "expect: [{latency: {p99: 1s, subscribers: [all]}}]\n"
    read = scenario(MINIMAL + text)
    assert read.expect is not None
    assert read.expect[0] == Latency(p99=1.0, subscribers=("all",))
    assert "there is no subscriber 'al' | did you mean 'all'?" in complaint(MINIMAL + text.replace("[all]", "[al]"))


def test_a_drain_that_could_end_within_a_legal_backoff_is_refused() -> None:
    """Explicit times must exceed the longest wait; left out, they do."""
    read = load_scenario(EXAMPLE, known=KNOWN)
    assert (drain_limits(read, 8.0).limit_s, drain_limits(read, 8.0).stall_s) == (60.0, 10.0)
    with pytest.raises(ConfigError) as caught:
        drain_limits(read, 100.0, "the longest backoff of retry")
    assert [(p.line, p.column) for p in caught.value.problems] == [(33, 16), (33, 28)]
    assert "drain.stall: 10s does not exceed the longest backoff of retry, 100s" in str(caught.value)
    with pytest.raises(ConfigError, match=r"drain.stall: 10s does not exceed"):
        drain_limits(read, 10.0)
    free = drain_limits(scenario(MINIMAL), 100.0)
    assert free.limit_s > free.stall_s > 100.0
    short = scenario(MINIMAL + "drain: {limit: 5s}\n")
    with pytest.raises(ConfigError, match="ends the drain before a stall"):
        drain_limits(short, 1.0)


def test_two_faults_of_one_name_in_one_kind_of_seam_are_refused() -> None:
    """A clash between plugins names both classes."""

    class Other(Fault):
        kind = Handler
        name = "slow"

    with pytest.raises(WiringError, match=r"two faults in handler are called 'slow'.*SlowFault.*Other"):
        by_seam([SlowFault, Other])
    assert by_seam([SlowFault, SlowFault]) == {"handler": {"slow": SlowFault}}


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "5",
        "version: 1",
        "{}",
        "version: []\nname: {}\nload: 5\nsubscribers: []\nfaults: {}\nexpect: 5\nplugins: x",
        "load: {stages: 5, events: {}}",
        "faults: [[], 5, {}, {random: 5}, {random: {of: 5}}, {on: [], do: {}}]",
        "expect: [[], {}, {a: 1, b: 2}, 5, {latency: 5}, {no_loss: []}]",
        "steady: 5",
        "steady: {expect: 5}",
        "vars: []",
    ],
)
def test_any_shape_is_answered_with_problems(text: str) -> None:
    """Wrong kinds of things in every place end as configuration errors with places, not as exceptions."""
    assert all(told.startswith("s.yaml:") for told in complaints(text))


shapes = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["5s", "handler:all", "slow", "${x}", "a", ">"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["for", "rate", "do", "on", "id", "at", "random", "of", "latency"]), inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["load", "faults", "expect", "steady", "drain", "plugins", "vars"]), shapes))
def test_no_shape_escapes_validation(sections: dict[str, object]) -> None:
    """Whatever stands in a section: a valid scenario or a configuration error."""
    text = "\n".join(f"{key}: {_flow(value)}" for key, value in sections.items())
    base = MINIMAL if "load" not in sections else "\n".join(MINIMAL.splitlines()[:3]) + "\n"
    try:
        scenario(base + text)
    except ConfigError as error:
        told = error.problems
    else:
        told = ()
    assert all(problem.line > 0 for problem in told)


def _flow(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str):
        return f"'{value}'"
    return "null" if value is None else str(value).lower()
