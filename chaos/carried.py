"""The scenarios that squall brings along."""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path

from squall.core.errors import ConfigError


def carried(name: str) -> Path:
    """The file of one of squall's own scenarios. Raises ConfigError that names what there is."""
    folder = Path(str(files("squall") / "scenarios"))
    path = folder / f"{name}.yaml"
    if path.exists():
        return path
    names = sorted(found.stem for found in folder.glob("*.yaml"))
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"squall's own: {', '.join(names)}"
    raise ConfigError(f"there is no file and no scenario '{name}'; {hint}")
