"""A process that tells how much it sets aside from the garbage collector, and when: put before its own code."""

from __future__ import annotations

TELLING = """
import gc, sys
own = gc.freeze
def freeze():
    own()
    print("set aside:", gc.get_freeze_count(), flush=True)
gc.freeze = freeze
"""


def set_aside(line: str) -> int:
    """So many objects, as the process told; -1 where the line says something else."""
    said, _, number = line.partition("set aside:")
    return int(number) if number and not said else -1
