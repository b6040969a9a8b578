"""The proxies of a run: before what its target connects to, where the scenario has faults in the network."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from random import Random

from squall.chaos.catalogue import Catalogue
from squall.chaos.scenario import Scenario
from squall.core.clock import Clock
from squall.core.config import Config
from squall.core.errors import ConfigError
from squall.core.fault import Network, Proxies
from squall.core.plugin import Context, Plugin
from squall.core.wiring import Registry


class Networks:
    """Puts a proxy where it is first asked for a detour that the scenario has faults on; `seams` are those so far.

    Which plugin puts them there, and its options, are the operator's to say. Raises ConfigError where none can.
    """

    def __init__(self, scenario: Scenario, config: Config, catalogue: Catalogue, clock: Clock) -> None:
        self.seams: dict[str, Network] = {}
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
            self.seams[seam] = await self._proxies.between(seam, host, port)
        if self._asked[seam] != (host, port):
            first, second = self._asked[seam], (host, port)
            raise ConfigError(
                f"the target connects to two addresses as '{name}': {first} and {second}; name each apart"
            )
        return self.seams[seam].host, self.seams[seam].port

    async def close(self) -> None:
        if self._proxies is not None:
            await self._proxies.close()


def _plugins(config: Config, installed: Mapping[str, type[Plugin] | str]) -> Iterator[Plugin]:
    """Every plugin that puts proxies: as squall.yaml lists it, or else with its defaults."""
    sections = {section.name: section for section in config.plugins or ()}
    for name, kind in installed.items():
        if not isinstance(kind, str) and hasattr(kind, "squall_proxies"):
            yield kind(sections[name].options(kind.Options)) if name in sections else kind()
