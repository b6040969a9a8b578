"""The proxies of a run: before what its target connects to, where the scenario has faults in the network."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from random import Random

from squall.chaos.catalogue import Catalogue
from squall.chaos.scenario import Scenario
from squall.chaos.undo import Lease, forget, save_undo
from squall.core.clock import Clock
from squall.core.config import Config
from squall.core.errors import ConfigError
from squall.core.fault import Fault, Network, Proxies, Undo
from squall.core.plugin import Context, Plugin
from squall.core.wiring import Registry


class Networks:
    """Puts a proxy where it is first asked for a detour that the scenario has faults on; `seams` are those so far.

    Which plugin puts them there, and its options, are the operator's to say. Raises ConfigError where none can.
    """

    def __init__(self, scenario: Scenario, config: Config, catalogue: Catalogue, clock: Clock, folder: Path) -> None:
        self.seams: dict[str, Network] = {}
        self._folder = folder
        self._plans: list[Lease] = []
        self._wanted = {one.on for one in scenario.faults if issubclass(one.fault.kind, Network)}
        self._asked: dict[str, tuple[str, int]] = {}
        self._proxies: Proxies | None = None
        if self._wanted:
            log = logging.getLogger("squall")
            ctx = Context(clock, lambda name: Random(f"{scenario.seed}:{name}"), log, lambda *change: None)
            plugins = list(_plugins(config, catalogue.plugins))
            self._proxies = next(iter(Registry(plugins).ask("squall_proxies", ctx=ctx)), None)
            if self._proxies is None:
                raise ConfigError("faults act on a network, and no plugin is installed that puts proxies there")

    async def detour(self, name: str, host: str, port: int) -> tuple[str, int]:
        """Where the target is to connect to instead. Raises ConfigError for one name with two addresses."""
        seam = f"{Network.prefix}:{name}"
        if self._proxies is None or seam not in self._wanted:
            return host, port
        if seam not in self.seams:
            self._asked[seam] = (host, port)
            self.seams[seam] = await self._proxies.between(seam, host, port, partial(self._keep, seam))
        if self._asked[seam] != (host, port):
            first, second = self._asked[seam], (host, port)
            raise ConfigError(
                f"the target connects to two addresses as '{name}': {first} and {second}; name each apart"
            )
        return self.seams[seam].host, self.seams[seam].port

    def _keep(self, seam: str, fault: type[Fault], undo: Undo) -> None:
        self._plans.append(save_undo(self._folder, f"proxy-{seam}", seam, fault, undo, f"a proxy for {seam}"))

    async def close(self) -> None:
        """Take all away. Raises SquallError, and leaves it to `squall heal` then."""
        try:
            if self._proxies is not None:
                await self._proxies.close()
            for plan in self._plans:
                forget(plan.path)
        finally:
            for plan in self._plans:
                plan.release()


def _plugins(config: Config, installed: Mapping[str, type[Plugin] | str]) -> Iterator[Plugin]:
    """Every plugin that puts proxies: as squall.yaml lists it, or else with its defaults."""
    sections = {section.name: section for section in config.plugins or ()}
    for name, kind in installed.items():
        if not isinstance(kind, str) and hasattr(kind, "squall_proxies"):
            yield kind(sections[name].options(kind.Options)) if name in sections else kind()
