"""The target that a scenario names: made, with what the operator says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from squall.chaos.catalogue import Catalogue
from squall.chaos.scenario import Scenario
from squall.core.config import Config, TargetSection
from squall.core.errors import ConfigError, Problem
from squall.core.options import Options, did_you_mean
from squall.core.plugin import NoOptions
from squall.core.target import Batches, Claims, Target
from squall.core.yaml_source import Json


def make_target(scenario: Scenario, config: Config, catalogue: Catalogue) -> Target:
    """The target that a scenario names: of a kind, or one of the operator's. Raises ConfigError."""
    section = config.targets.get(scenario.target)
    kind = scenario.target if section is None else section.kind
    if kind not in catalogue.targets:
        hint = did_you_mean(kind, catalogue.targets, "kinds")
        raise ConfigError(
            [Problem(f"targets.{scenario.target}.kind", f"there is no kind of target '{kind}'", hint=hint)]
        )
    target = catalogue.targets[kind]()
    target_options(target, scenario.target, config)
    for index, stage in enumerate(scenario.load.stages):
        if stage.batch is not None and not isinstance(target, Batches):
            message = f"target {scenario.target} publishes no batches (it has no publish_batch)"
            raise ConfigError([scenario.document.problem(("load", "stages", index, "batch"), message)])
    return target


def target_options(target: Target, name: str, config: Config) -> Options:
    """What squall.yaml says of this target besides kind and claims, as its class's `Options`. Raises ConfigError."""
    section = config.targets.get(name)
    said = dict(section.model_extra or {}) if section is not None else {}
    model: type[Options] = getattr(target, "Options", NoOptions)
    if config.document is None:
        return model.of(f"targets.{name}", said)
    return config.document.fit(cast("Json", said), model, ("targets", name), f"the target {name}")


def claims_of(target: Target, section: TargetSection | None) -> Claims:
    """What the target promises, where the operator does not say otherwise."""
    if section is None:
        return target.claims
    own, said = target.claims, section.claims
    return replace(
        own,
        delivery=said.delivery or own.delivery,
        order=said.order or own.order,
        durability=said.durability or own.durability,
        lease_s=own.lease_s if said.lease is None else said.lease,
        longest_delay_s=own.longest_delay_s if said.longest_delay is None else said.longest_delay,
        max_attempts=said.max_attempts or own.max_attempts,
    )
