"""Every mistake in a scenario is placed and said, all at once, and no shape of a file escapes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.chaos.scenario_texts import EXAMPLE, MINIMAL, changed, complaint, complaints, operator, scenario

from squall.core.errors import ConfigError


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


def test_a_variable_whose_value_names_another_is_refused_where_it_stands() -> None:
    """In a circle or not, used or not: what is put in for `${name}` is not looked through again."""
    text = MINIMAL + 'vars: {a: "${b}", b: "at ${a}", c: 5}\n'
    where, told = f"s.yaml:{len(text.splitlines())}", "the value of a variable names no other | write the value itself"
    assert complaints(text) == [f"{where}:11: vars.a: {told}", f"{where}:22: vars.b: {told}"]
    given = MINIMAL + "vars: {c: 5}\n"
    assert complaint(given, "c=${c}") == "--set c: the value of a variable names no other (write the value itself)"


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
        ("HIGH", "high", "high", "load.events[1].priority: expected 'CRITICAL' or 'HIGH'"),
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


@pytest.mark.parametrize("overflow", ["drop_new", "drop_old", "drop_lowest", "dead_letter_new"])
def test_a_durable_subscriber_drops_nothing(overflow: str) -> None:
    """As the router refuses it, before the run."""
    text = MINIMAL.replace('pattern: ">"', f"pattern: a.b, durable: true, overflow: {overflow}")
    assert f"overflow: {overflow} drops events, and what a durable subscriber" in complaint(text)
    scenario(text.replace("durable: true", "durable: false"))


def test_a_load_that_no_subscriber_wants_is_a_mistake() -> None:
    """It would test nothing."""
    text = MINIMAL.replace('pattern: ">"', "pattern: orders.>")
    assert "load.events: no subscriber's pattern matches any of the types: a.b" in complaint(text)


def test_a_payload_has_room_for_what_tells_the_event() -> None:
    """24 bytes: the run, the event's number, the time."""
    scenario(MINIMAL.replace("{type: a.b", "{size: 24, type: a.b"))
    text = MINIMAL.replace("{type: a.b", "{size: 23, type: a.b")
    assert "size: expected at least 24, got 23" in complaint(text)


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


def test_an_empty_load_is_refused() -> None:
    """Nothing published, or no event that could be drawn, would prove nothing."""
    assert "the load publishes nothing" in complaint(MINIMAL.replace("rate: 5", "rate: 0"))
    assert "every weight is 0" in complaint(MINIMAL.replace("{type: a.b}", "{type: a.b, weight: 0}"))
    assert "expected a length of at least 1, got 0" in complaint(MINIMAL.replace("[{type: a.b}]", "[]"))
    assert "expected a length of at least 1, got 0" in complaint(MINIMAL.replace('{all: {pattern: ">"}}', "{}"))


RANDOM = (
    "faults: [{random: {id: storm, count: 5, between: [1s, 9s], for: [1s, 2s], of: [{do: slow, on: handler:all}]}}]\n"
)


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
