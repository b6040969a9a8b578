"""The way of a publish to its acknowledgement: which seams are on it, and what stands there."""

from __future__ import annotations

from collections.abc import Collection


def passes(path: Collection[str] | None, seam: str) -> bool | None:
    """Whether a publish passes the seam before it is acknowledged; None: nobody knows. `path` is what the target tells
    of its own, None where it tells nothing: then a store is on it, and anything else may be, but for a handler, which
    has its event afterwards."""
    if seam.startswith("handler:"):
        return False
    if path is not None:
        return seam in path
    return True if seam.startswith("storage:") else None


def stands_at(seam: str) -> str:
    """What does not answer while a fault stands at the seam, in words."""
    kind, _, name = seam.partition(":")
    return {"storage": "the store", "net": f"{name}, or the network to it,"}.get(kind, name)
