"""A plugin of somebody else's, installed as pip would: a module and an entry point on the path for imports."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.chaos.cli.command import write

HOOKS = {
    "squall_event_store": "ctx",
    "squall_store_wrapper": "ctx, store",
    "squall_publish_middleware": "ctx",
    "squall_gate": "ctx, subscription",
    "squall_deliver_middleware": "ctx, subscription",
    "squall_settle_policy": "ctx, subscription",
    "squall_observer": "ctx",
    "squall_targets": "",
    "squall_faults": "",
    "squall_invariants": "",
}
"""Every hook, and its arguments."""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str, *, name: str = "stranger") -> None:
    """Install a plugin `name`, class Stranger, whose module has this body, for the rest of the test."""
    module = f"stranger_{abs(hash((str(folder), name)))}"
    write(folder / "site" / f"{module}.py", body)
    metadata = folder / "site" / f"{module}-1.0.dist-info"
    write(metadata / "METADATA", f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    write(metadata / "entry_points.txt", f"[squall.plugins]\n{name} = {module}:Stranger\n")
    monkeypatch.syspath_prepend(str(folder / "site"))


def plugin(*methods: str, before: str = "") -> str:
    """The module of a plugin with these methods."""
    lines = [line for method in methods for line in method.splitlines()]
    return "\n".join(
        ["import squall", before, "", "class Stranger(squall.Plugin):", "    summary = 'somebody else'"]
        + [f"    {line}" for line in lines]
    )


def hook(name: str, *body: str) -> str:
    """A hook's implementation."""
    arguments = f"self, {HOOKS[name]}" if HOOKS[name] else "self"
    return "\n".join(["@squall.hookimpl", f"def {name}({arguments}):", *(f"    {line}" for line in body)])
