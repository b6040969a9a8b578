"""What takes back a fault outside of the bench's process, on disk for as long as it acts.

Whoever sees to a plan, the run itself or who heals it, holds a lock on its file, which goes with the process: a plan
that nobody holds was left by a run that is gone.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from squall.chaos.whole_file import misfit
from squall.core.errors import StoreFileError
from squall.core.fault import Fault, Undo

PREFIX, SUFFIX = "undo-", ".json"


class Plan(BaseModel):
    """What stands in such a file: whose fault, where it acts, and what its `heal` needs. `what` it is in words, where
    it is no fault of the scenario's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    kind: str
    do: str
    on: str
    undo: dict[str, JsonValue]
    what: str = ""


class Held(Exception):
    """Somebody else sees to the plan."""


class Lease:
    """The lock on a plan's file. Unlike flock's it is not inherited by what a target under test forks."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor

    def release(self) -> None:
        """Somebody else may see to the plan, if it is still there."""
        os.close(self._descriptor)


def save_undo(folder: Path, fault_id: str, seam: str, fault: type[Fault], undo: Undo, what: str = "") -> Lease:
    """Write `undo-<fault's id>.json` into the run folder. It is held, and synced, before this returns; remove the file
    once the fault is gone. Raises StoreFileError."""
    path = folder / f"{PREFIX}{fault_id}{SUFFIX}"
    plan = Plan(kind=fault.kind.__name__.lower(), do=fault.name, on=seam, undo=dict(undo), what=what)
    temporary = path.with_name(f"{path.name}.tmp-0")
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(descriptor, plan.model_dump_json(indent=2).encode() + b"\n")
            os.fsync(descriptor)
            temporary.replace(path)
            directory = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except BaseException:
            os.close(descriptor)
            raise
    except OSError as error:
        raise StoreFileError(f"{path}: cannot be written ({error.strerror or error})") from error
    return Lease(path, descriptor)


def forget(path: Path) -> None:
    """Remove a plan: the fault is gone. Somebody may have removed it by hand."""
    path.unlink(missing_ok=True)


def plans_in(folder: Path) -> list[Path]:
    """The plans that lie in a run folder, held or not."""
    return sorted(folder.glob(f"{PREFIX}*{SUFFIX}"))


def fault_of(path: Path) -> str:
    """The id of the fault that the plan is for."""
    return path.name.removeprefix(PREFIX).removesuffix(SUFFIX)


@contextmanager
def taken(path: Path, *, alone: bool) -> Iterator[Plan | None]:
    """The plan, held meanwhile: `alone` to heal by it, otherwise only to see that nobody else does. None: it is done
    with by now. Raises Held, StoreFileError where it cannot be read."""
    lock = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    try:
        descriptor = os.open(path, os.O_RDWR if alone else os.O_RDONLY)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise StoreFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        try:
            fcntl.lockf(descriptor, lock | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:  # which of the two is up to the system
            raise Held(str(path)) from error
        yield _read(path, descriptor) if os.fstat(descriptor).st_nlink else None
    finally:
        os.close(descriptor)


def _read(path: Path, descriptor: int) -> Plan:
    try:
        return Plan.model_validate_json(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
    except ValidationError as error:
        raise StoreFileError(f"{path}: is no plan that squall wrote ({misfit(error)})") from error
