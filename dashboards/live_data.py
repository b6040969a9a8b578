"""What a run that goes on has written of itself so far."""

from __future__ import annotations

from pathlib import Path


def going_on(folder: Path) -> bool:
    """Whether the run writes of itself now."""
    return False
