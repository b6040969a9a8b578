"""The scenarios that squall brings along."""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path

from squall.core.errors import ConfigError, Problem


def carried(name: str) -> Path:
    """The file of one of squall's own scenarios. Raises ConfigError that names what there is."""
    folder = Path(str(files("squall") / "scenarios"))
    names = sorted(found.stem for found in folder.glob("*.yaml"))
    if name in names:
        return folder / f"{name}.yaml"
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"squall's own: {', '.join(names)}"
    raise ConfigError(
        [Problem(f"{name:.80}", "there is no such file, and no scenario of squall's by that name", hint=hint)]
    )
