"""One whole run as `squall run` makes it: a scenario, the operator's squall.yaml beside it, and what is installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from squall.chaos.catalogue import load_catalogue
from squall.chaos.run import RunResult, run_scenario
from squall.chaos.scenario import load_scenario
from squall.core.config import load_config
from squall.core.target import Target

Section = Mapping[str, object]


async def run(
    folder: Path, sections: Section, yaml: str = "", targets: Mapping[str, type[Target]] | None = None
) -> RunResult:
    """Run a scenario. `yaml`: what squall.yaml says besides its version; `targets`, instead of those installed."""
    (folder / "squall.yaml").write_text("version: 1\n" + yaml, encoding="utf-8")
    config, catalogue = load_config(folder / "squall.yaml"), load_catalogue()
    catalogue = replace(catalogue, targets=targets or catalogue.targets)
    path = folder / "scenario.yaml"
    path.write_text(json.dumps(sections), encoding="utf-8")
    return await run_scenario(load_scenario(path, config=config, known=catalogue.known(config)), config, catalogue)
