"""What takes back a fault outside of the bench's process, on disk for as long as it acts."""

from __future__ import annotations

import json
import os
from pathlib import Path

from squall.core.errors import StoreFileError
from squall.core.fault import Fault, Undo


def save_undo(folder: Path, fault_id: str, seam: str, fault: Fault, undo: Undo) -> Path:
    """Write `undo-<fault's id>.json` into the run folder: whose plan it is, where, and the plan. It is synced before
    this returns. Raises StoreFileError."""
    path = folder / f"undo-{fault_id}.json"
    kind = type(fault).kind.__name__.lower()
    text = json.dumps({"version": 1, "kind": kind, "do": fault.name, "on": seam, "undo": dict(undo)}, indent=2)
    temporary = path.with_name(f"{path.name}.tmp-0")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        directory = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StoreFileError(f"{path}: cannot be written ({error.strerror or error})") from error
    return path
