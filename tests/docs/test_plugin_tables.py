"""The tables of docs/plugins.md are those of the options models."""

from __future__ import annotations

import re

import pytest
from tests.docs.pages import ROOT
from tests.docs.reference import default_of

from squall.core import wiring
from squall.core.fault import Fault
from squall.core.options import Options
from squall.core.yaml_source import parse_document
from squall.plugins.faults import FaultsPlugin
from squall.plugins.network import NetworkPlugin
from squall.plugins.network.faults import FAULTS
from squall.plugins.processes import ProcessesPlugin

PAGE = ROOT / "docs" / "plugins.md"
BUILT_IN = sorted(
    name
    for name, point in wiring.installed().items()
    if point.module.startswith("squall.plugins.") and point.dist is not None and point.dist.name == "squall"
)


def rows(model: type[Options]) -> list[tuple[str, str, str]]:
    """Option, default and meaning, in the model's order."""
    return [(f"`{name}`", default_of(field), field.description or "") for name, field in model.model_fields.items()]


def written_table(name: str) -> list[tuple[str, ...]]:
    """The cells of the table behind the comment that names it, without its heading."""
    found = re.search(rf"<!-- options of {re.escape(name)} -->\n\n((?:\|.*\n)+)", PAGE.read_text(encoding="utf-8"))
    assert found is not None, f"docs/plugins.md has no table of the options of {name}"
    _, _, *lines = found[1].splitlines()
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]


def check_table(name: str, model: type[Options]) -> None:
    """Every option with its default, in order, and its meaning: the model's own words where it has any."""
    written, expected = written_table(name), rows(model)
    assert [row[:2] for row in written] == [row[:2] for row in expected], name
    for (option, _, said), (_, _, meaning) in zip(written, expected, strict=True):
        assert said == (meaning or said), f"{name}: {option}"
        assert said, f"{name}: {option} is not explained"


@pytest.mark.parametrize("name", BUILT_IN)
def test_page_has_each_plugins_options(name: str) -> None:
    """Every built-in plugin has a section with an up-to-date table and an example."""
    check_table(name, wiring.load_class(wiring.installed()[name]).Options)
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {name}\n")[1].split("\n## ")[0]
    assert "<!-- file: squall.yaml -->\n```yaml\nversion: 1\nplugins:\n" in section
    assert f"  - {name}" in section


@pytest.mark.parametrize(
    "kind",
    [kind for plugin in (FaultsPlugin(), NetworkPlugin(), ProcessesPlugin()) for kind in plugin.squall_faults()],
    ids=lambda kind: f"{kind.kind.__name__}-{kind.name}",
)
def test_page_has_each_faults_options(kind: type[Fault]) -> None:
    """Every built-in fault stands in its table, with what it does and all its options."""
    seam = kind.kind.__name__.lower()
    (row,) = [row for row in written_table(f"faults in {seam}") if row[0] == f"`{kind.name}`"]
    assert row[1] == (kind.__doc__ or "").strip()
    options = [f"{option} ({default}): {meaning}" for option, default, meaning in rows(kind)]
    assert row[2] == ("; ".join(options) or "none")


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.name)
def test_each_fault_of_the_network_has_an_example_with_all_its_options(kind: type[Fault]) -> None:
    """In a block of docs/network-faults.md, which is validated when the page is run."""
    page = "docs/network-faults.md"
    section = (ROOT / page).read_text(encoding="utf-8").split(f"\n### {kind.name}\n")[1].split("\n##")[0]
    (block,) = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    example = parse_document(block, page).at(("faults", 0))
    assert isinstance(example, dict)
    assert example["do"] == kind.name
    assert set(kind.model_fields) == example.keys() - {"id", "at", "for", "do", "on"}


def test_a_table_that_drifted_is_noticed() -> None:
    """An option, a default or a meaning that differs from the page fails."""

    class Drifted(Options):
        rate_window: float = 11.0

    with pytest.raises(AssertionError):
        check_table("metrics", Drifted)
