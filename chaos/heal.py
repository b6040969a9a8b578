"""Takes back the faults that runs left behind: what `squall heal` does, and a run's watchdog."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from squall.chaos.run_folder import list_runs, run_name
from squall.chaos.scenario_faults import Kinds
from squall.chaos.undo import Held, Plan, fault_of, forget, plans_in, taken
from squall.core.errors import StoreFileError

State = Literal["healed", "failed", "held"]


@dataclass(frozen=True)
class Leftover:
    """A plan that a run left, and that nobody sees to. `what`: the fault in words, `down on net:redis`."""

    run: str
    fault: str
    what: str
    path: Path


@dataclass(frozen=True)
class Healing:
    """What became of a plan. held: its run goes on, or somebody else heals it. `why` it failed, and what to do."""

    run: str
    fault: str
    what: str
    state: State
    why: str = ""


def leftovers(runs: Path) -> list[Leftover]:
    """What all runs in a folder of run folders left behind, newest run first."""
    return [found for folder in list_runs(runs) for path in plans_in(folder) if (found := _leftover(path)) is not None]


def _leftover(path: Path) -> Leftover | None:
    run, fault = run_name(path.parent), fault_of(path)
    try:
        with taken(path, alone=False) as plan:
            return None if plan is None else Leftover(run, fault, _what(plan), path)
    except Held:
        return None
    except StoreFileError as error:
        return Leftover(run, fault, str(error).splitlines()[0], path)


async def heal(folders: Iterable[Path], kinds: Kinds) -> list[Healing]:
    """Take back every fault whose plan lies in one of the run folders, one after the other, and remove what is done.
    Whatever fails is told, and its plan stays."""
    return [await _heal(path, kinds) for folder in folders for path in plans_in(folder)]


async def _heal(path: Path, kinds: Kinds) -> Healing:
    run, fault, what = run_name(path.parent), fault_of(path), ""
    try:
        with taken(path, alone=True) as plan:
            if plan is not None:
                what = _what(plan)
                await _take_back(plan, kinds)
                forget(path)
    except Held:
        return Healing(run, fault, what, "held")
    except Exception as error:  # noqa: BLE001  what a fault raises must not keep the others from being healed
        why = str(error) if isinstance(error, StoreFileError) else f"{type(error).__name__}: {error}"
        return Healing(run, fault, what, "failed", f"{why}; if there is nothing left to heal, remove {path}")
    return Healing(run, fault, what, "healed")


async def _take_back(plan: Plan, kinds: Kinds) -> None:
    fault = kinds.get(plan.kind, {}).get(plan.do)
    if fault is None:
        raise LookupError(f"no plugin that is installed here has a fault {plan.do} in {plan.kind}")
    try:
        async with asyncio.timeout(fault.heal_s) as limit:
            await fault.heal(plan.undo)
    except TimeoutError as error:
        raise TimeoutError(f"it took longer than {fault.heal_s:g} s") if limit.expired() else error from None


def _what(plan: Plan) -> str:
    return plan.what or f"{plan.do} on {plan.on}"
