"""The generated tables of the documentation are current, whole, and their examples are right."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from tests.docs import backend_reference, reference
from tests.docs.pages import parse
from tests.docs.reference import DOCS, MARK, Table, codes, keys, model, pages, render, tables, used_codes

from squall.chaos import scenario_models
from squall.chaos.catalogue import load_catalogue
from squall.chaos.check import expectations
from squall.chaos.check.verdict import EXIT_CODES
from squall.chaos.cli import guard
from squall.core import config
from squall.core.options import Options
from squall.core.yaml_source import parse_document
from squall.plugins.faults import FaultsPlugin
from squall.plugins.serve import ServePlugin

SCENARIOS = DOCS / "scenarios.md"


def named(page: Path) -> list[str]:
    """The tables of a page by name."""
    return [name for name, _ in MARK.findall(page.read_text(encoding="utf-8"))]


def read(text: str) -> Any:
    """A value as it stands in a scenario file."""
    document = parse_document(f"value: {text}\n", "example")
    assert isinstance(document.data, dict)
    return document.data["value"]


def fits(field: FieldInfo, value: object) -> None:
    """Raises ValidationError where the value could not stand in a file."""
    kind: Any = Annotated[(field.annotation, "the type alone would not do", *field.metadata)]
    TypeAdapter[Any](kind).validate_json(json.dumps(value), strict=True)


def examples(text: str) -> Iterator[tuple[str, FieldInfo, str]]:
    """Every example of a page's tables: where it stands, what it is an example of, and itself."""
    for name, _, written in tables(text):
        for first, cells in written.items():
            if "example" not in cells:
                continue
            place = f"{name}: {first}"
            option = first.strip("`")
            if name.startswith("keys of "):
                field = keys(model(name.removeprefix("keys of ")))[option]
            else:
                owner, option = (part.strip("`") for part in first.split(": "))
                kind = expectations.EXPECTATIONS.get(owner, expectations.Measured)
                field = keys(kind)[option]
            yield place, field, cells["example"].strip("`")


def empty(text: str) -> list[str]:
    """Cells of a page's tables that nobody has written yet."""
    return [
        f"{name}: {first}: {head}"
        for name, _, written in tables(text)
        for first, row in written.items()
        for head, cell in row.items()
        if not cell
    ]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_tables_are_current(page: Path) -> None:
    """Each is what the code says now."""
    text = page.read_text(encoding="utf-8")
    assert text == render(text), f"{page.name} is out of date: run `make docs`"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_cell_is_written(page: Path) -> None:
    """Nothing is left unexplained."""
    assert empty(page.read_text(encoding="utf-8")) == []


def test_examples_could_stand_in_a_file() -> None:
    """Each example is accepted by the field that it is an example of."""
    found = list(examples(SCENARIOS.read_text(encoding="utf-8")))
    assert len(found) > 80
    for place, field, text in found:
        try:
            fits(field, read(text))
        except ValidationError as error:
            pytest.fail(f"{place}: {text}: {error}")


def test_every_section_of_a_scenario_and_of_the_operators_file_has_a_table() -> None:
    """A section that is new is missed until it is documented."""
    kinds = {
        name
        for module in (scenario_models, config)
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, Options) and kind.__module__ == module.__name__
    }
    wrappers = {"RandomEntry", "Neo4jSection"}  # one key, `random`, which the text names; and none at all
    assert kinds - wrappers <= {name.removeprefix("keys of ") for name in named(SCENARIOS)}


def test_every_fault_and_every_expectation_has_an_example() -> None:
    """Somewhere in the page's blocks, which are validated when the page is run."""
    text = "\n".join(block.text for block in parse(SCENARIOS) if block.kind == "yaml")
    for kind in FaultsPlugin().squall_faults():
        place = f"{kind.kind.__name__.lower()}:"
        assert re.search(rf'do: {kind.name}, on: "{place}', text), f"{place} {kind.name}"
        options = re.findall(rf"do: {kind.name}, .*", text)
        for option in keys(kind):
            assert any(f"{option}: " in one for one in options) or option == "nth", f"{kind.name}: {option}"
    for name in expectations.EXPECTATIONS:
        assert re.search(rf"\b{name}\b", text), name


def test_every_reason_of_an_unknown_verdict_is_told() -> None:
    """The checker gives no code that the verdict's own words do not list, and lists none that it does not give."""
    assert set(codes()) == used_codes()
    assert "reasons" in named(DOCS / "concepts.md")


def test_exit_codes_are_those_of_the_commands() -> None:
    """The page's table has all of them, and the order in which the worst counts."""
    text = SCENARIOS.read_text(encoding="utf-8")
    section = text.split("### Exit codes\n")[1].split("\n## ")[0]
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)]
    assert listed == sorted({*EXIT_CODES.values(), guard.USAGE, guard.INFRASTRUCTURE, guard.INTERRUPTED})
    told = [int(code) for code in re.findall(r"\d+", section.split("the worst counts:")[1])]
    assert all(guard.worst(one, other) == one for one, other in pairwise(told))
    assert sorted(told) == listed


def test_drift_is_noticed() -> None:
    """A key that is new, gone or changed makes the page differ; what it does not know is asked for."""
    text = render(SCENARIOS.read_text(encoding="utf-8"))
    gone = re.sub(r"\| `drain` .*\n", "", text, count=1)
    assert gone != text
    assert render(gone) != gone
    assert len(empty(render(gone))) > len(empty(text))
    changed = text.replace("| 30s |", "| 31s |", 1)
    assert render(changed) == text
    more = text.replace("| `about` |", "| `abuot` | text | none | x | y |\n| `about` |", 1)
    assert render(more) == text
    with pytest.raises(KeyError, match="there is no table"):
        render("<!-- table: no such -->\n\n")


def test_an_example_that_does_not_fit_is_noticed() -> None:
    """Wrong words, wrong units, numbers out of range."""
    for section, key, text in (
        ("Subscriber", "delivery", "exactly-once"),
        ("Subscriber", "timeout", "5 parsecs"),
        ("Subscriber", "concurrency", "0"),
        ("EventSection", "priority", "URGENT"),
        ("ScenarioFile", "load", "{stages: []}"),
    ):
        with pytest.raises(ValidationError):
            fits(keys(model(section))[key], read(text))


def test_what_a_page_has_written_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that the code does not know survive, by key, whatever their place."""
    monkeypatch.setattr(reference, "known", lambda name: Table(("key", "value", "meaning"), [("`a`", "1", None)]))
    written = "<!-- table: any -->\n\n| meaning | key |\n|---|---|\n| kept | `a` |\n\nafter\n"
    swapped = written.replace("| meaning | key |", "| key | meaning |").replace("| kept | `a` |", "| `a` | kept |")
    expected = "<!-- table: any -->\n\n| key | value | meaning |\n|---|---|---|\n| `a` | 1 | kept |\n\nafter\n"
    assert render(swapped) == expected
    assert render(expected) == expected


def test_every_target_of_squalls_own_has_its_promises_in_the_table() -> None:
    """Whatever plugin offers it."""
    assert set(load_catalogue().targets) == set(backend_reference.targets())


def test_who_does_more_than_watch_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the table must say what it does to events."""
    monkeypatch.setattr(backend_reference, "WATCHING", {"`serve`": ServePlugin})
    with pytest.raises(KeyError, match="does more than watch: squall_gate"):
        backend_reference.rows()
