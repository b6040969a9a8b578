"""Scenarios: what each key means."""

from __future__ import annotations

import pytest
from tests.chaos.scenario_texts import (
    EXAMPLE,
    KNOWN,
    MINIMAL,
    ExceptionFault,
    SlowFault,
    WriteError,
    complaint,
    operator,
    scenario,
)

from squall.chaos.check.expectations import Latency, Recovery
from squall.chaos.scenario import drain_limits, load_scenario
from squall.chaos.scenario_faults import by_seam
from squall.core.errors import ConfigError, WiringError
from squall.core.event import Priority
from squall.core.fault import Fault, Handler


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
    assert read.greatest_rate == (2000, "rate")
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
    assert (type(outage.fault), type(refuse.fault)) == (ExceptionFault, WriteError)
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


def test_the_greatest_rate_of_a_load_names_the_variable_that_says_it() -> None:
    """By which name `--set` changes it; none where it is written out."""
    assert scenario(MINIMAL).greatest_rate == (5, "")
    text = MINIMAL.replace("rate: 5", 'rate: 300, to: "${top}"') + "vars: {top: 200}\n"
    assert scenario(text).greatest_rate == (300, "")
    assert scenario(text, "top=400").greatest_rate == (400, "top")


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


def test_nothing_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of the environment is not a variable of the scenario, and `env:` is text."""
    monkeypatch.setenv("SECRET", "1")
    assert "there is no variable 'SECRET'" in complaint(MINIMAL + "about: ${SECRET}\n")
    assert scenario(MINIMAL + "about: env:SECRET\n").about == "env:SECRET"


def test_targets_and_handlers_are_the_operators_by_name() -> None:
    """A target of squall.yaml and code under `handlers:` may be named; others are told with the nearest."""
    config = operator('targets: {orders: {kind: x}}\nhandlers: {shop: "a:b"}\n')
    text = MINIMAL.replace('pattern: ">"', 'pattern: ">", handler: {call: shop}') + "target: orders\n"
    assert scenario(text, config=config).target == "orders"
    assert "there is no handler 'shp' | did you mean 'shop'?" in complaint(text.replace("shop", "shp"), config=config)
    assert "there is no target 'order' | did you mean 'orders'?" in complaint(
        text.replace("target: orders", "target: order"), config=config
    )


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
