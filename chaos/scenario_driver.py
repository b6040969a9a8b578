"""Who publishes a scenario's load, as its `load.driver` says."""

from __future__ import annotations

from collections.abc import Mapping

from squall.core.config import PluginSection
from squall.core.errors import ConfigError, Problem
from squall.core.options import Options, did_you_mean, show
from squall.core.plugin import Plugin
from squall.core.yaml_source import Document

LOC = ("load", "driver")


def read_driver(
    document: Document, drivers: Mapping[str, type[Options]], plugins: Mapping[str, type[Plugin] | str] | None
) -> tuple[PluginSection | None, list[Problem]]:
    """The driver as its section, None where the bench itself publishes; and what is wrong with it: its name, where
    `drivers` are those that there are, or its options."""
    written = document.at(LOC)
    if written is None:
        return None, []
    if isinstance(written, str) and written:
        section = PluginSection(written, document, LOC, {})
    elif isinstance(written, dict) and len(written) == 1 and isinstance(next(iter(written.values())), dict | None):
        ((name, options),) = written.items()
        section = PluginSection(name, document, (*LOC, name), options if isinstance(options, dict) else {})
    else:
        return None, [document.problem(LOC, f"expected a driver's name, or name: {{options}}, got {show(written)}")]
    if section.name not in drivers:
        hint = did_you_mean(section.name, drivers, "drivers") or "leave it out, and the bench itself publishes"
        why = (plugins or {}).get(section.name)
        return None, [section.problem(why if isinstance(why, str) else f"there is no driver '{section.name}'", hint)]
    try:
        section.options(drivers[section.name])
    except ConfigError as error:
        return section, list(error.problems)
    return section, []
