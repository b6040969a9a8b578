"""docs/hooks.md is current, and no hook exists without documentation, a test and a plugin of squall's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.hook_reference import BUILT_IN, PAGE, ROOT, TESTS, hooks, render, uses

from squall.core import hookspecs


def test_the_page_is_current() -> None:
    """It is what its sources say now."""
    assert PAGE.read_text(encoding="utf-8") == render(), "docs/hooks.md is out of date: run `make hooks`"


def lacks(hook: str, root: Path = ROOT, page: str | None = None) -> list[str]:
    """What a hook does not have and must have."""
    page = PAGE.read_text(encoding="utf-8") if page is None else page
    own_test = f"tests/hooks/test_{hook.removeprefix('squall_')}.py"
    doc = getattr(getattr(hookspecs, hook, None), "__doc__", None) or ""
    missing = {
        "a docstring that says when it is called": "Called " in doc,
        "a docstring that says what it returns": "Returns " in doc,
        f"a section in {PAGE.name}": f"\n## {hook}\n" in page,
        "a built-in plugin that uses it": bool(uses(hook, *BUILT_IN, root=root)),
        f"a plugin in {own_test}": own_test in {use.file for use in uses(hook, "tests/hooks", root=root)},
    }
    return [what for what, there in missing.items() if not there]


@pytest.mark.parametrize("hook", hooks())
def test_a_hook_has_documentation_a_test_and_a_use(hook: str) -> None:
    """One that lacks something is not ready to exist."""
    assert lacks(hook) == []


def test_the_hooks_stand_in_the_order_of_the_way_of_an_event() -> None:
    """As the page shows them: the store, the publish, the delivery, its settlement, who watches; the bench; launch."""
    assert [name.removeprefix("squall_") for name in hooks()] == [
        "event_store",
        "store_wrapper",
        "publish_middleware",
        "gate",
        "deliver_middleware",
        "settle_policy",
        "observer",
        "startup",
        "shutdown",
        "metrics_text",
        "targets",
        "load_drivers",
        "faults",
        "proxies",
        "invariants",
        "cli_commands",
        "dashboard_pages",
    ]


def test_a_hook_that_nothing_uses_would_be_noticed(tmp_path: Path) -> None:
    """In each of its lacks."""
    for folder in (*BUILT_IN, "tests/hooks"):
        (tmp_path / "nothing" / folder).mkdir(parents=True)
        (tmp_path / folder).mkdir(parents=True)
    assert len(lacks("squall_unheard_of", tmp_path / "nothing", "")) == 5
    plugin = "class Own(Plugin):\n    @hookimpl\n    def squall_unheard_of(self, ctx):\n        return 1\n"
    (tmp_path / "plugins" / "own.py").write_text(plugin, encoding="utf-8")
    (tmp_path / "tests" / "hooks" / "test_unheard_of.py").write_text(plugin, encoding="utf-8")
    assert len(lacks("squall_unheard_of", tmp_path, "\n## squall_unheard_of\n")) == 2
    unmarked = tmp_path / "unmarked"
    for folder in (*BUILT_IN, "tests/hooks"):
        (unmarked / folder).mkdir(parents=True)
    (unmarked / "plugins" / "own.py").write_text(plugin.replace("@hookimpl", "@other"), encoding="utf-8")
    assert len(lacks("squall_unheard_of", unmarked, "\n## squall_unheard_of\n")) == 4


def test_tests_of_hooks_that_are_gone_are_gone() -> None:
    """What is left over would prove nothing."""
    others = {"test_raising.py", "test_reference.py"}
    assert {path.name for path in TESTS.glob("test_*.py")} - others == {
        f"test_{name.removeprefix('squall_')}.py" for name in hooks()
    }
