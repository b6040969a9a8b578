"""`make bench` measures all that it promises, and says it in a table. How fast anything is, no test judges."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tests.benchmarks.__main__ import PAGE, PARTS, run
from tests.benchmarks.machine import describe
from tests.benchmarks.pieces import cost
from tests.benchmarks.rounds import QUICK, Scale, child
from tests.benchmarks.table import BEGIN, END, Bar, Row, as_markdown, as_text, write

# part: what squall is compared with, and what must be reached
BARS: dict[str, list[tuple[str, str]]] = {
    "throughput": [("lanes", "≥ 0.65"), ("blinker", "≥ 1.0")] * 2,
    "latency": [("lanes", "≤ 2.0")] * 2,
    "burst": [("lanes", "< 1 s"), ("accepted", "≥ 1.0"), ("bare objects", "≤ 1.3")],
    "durable": [*[("limit on disk", "≥ 0.7")] * 2, ("limit on disk", "≥ 0.5")],
    "remote": [("alone", "≤ 2.0")],
    "drivers": [],
    "redis": [*[("micro-batched by hand", "≥ 0.8")] * 8, ("micro-batched by hand", "≥ 1.0")],
    "neo4j": [("without", "≥ 0.97")],
    "proxies": [],
    "recording": [("off", "≥ 0.65"), ("off", "≤ 1.5"), ("off", "< 1,000 µs")],
    "tracing": [("off", "≥ 0.85"), ("the SDK inline", "≥ 5.0")],
    "checker": [("", "≥ 500,000 records/s"), ("", "< 1,024 MiB")],
    "dashboard": [],
    "matching": [("10 subscriptions", "< 3 µs")],
    "pieces": [],
}
PEERS = {"await", "lanes", "blinker", "psygnal", "pyee", "bubus"}


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_a_part_measures_and_its_bars_are_there(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Tiny counts, one round: no figure that cannot be, and every row in the table on stdout."""
    rows = run([part], QUICK)
    assert rows
    assert [row for row in rows if row.figure <= 0 or (row.theirs or 1) <= 0 or (row.ratio or 1) <= 0] == []
    assert Counter((row.other, str(row.bar)) for row in rows if row.bar) == Counter(BARS[part])
    if part == "throughput":
        assert {row.other for row in rows} == PEERS
    printed = capsys.readouterr().out
    assert all(cell in printed for row in rows for cell in row.cells())


@pytest.mark.slow
def test_the_table_is_put_into_the_page(tmp_path: Path) -> None:
    """In the place of the old one, and nothing else is touched."""
    page = tmp_path / PAGE.name
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    rows = run(["latency"], QUICK, page)
    written = page.read_text(encoding="utf-8")
    assert written.startswith("before\n")
    assert written.endswith(f"{END}\nafter\n")
    assert "old" not in written
    assert all(cell.replace("MISSED", "**missed**") in written for row in rows for cell in row.cells())


def test_a_part_that_fails_takes_nothing_from_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured is printed; the page is left as it was, and the command fails."""

    def broken(scale: Scale) -> list[Row]:
        raise RuntimeError("no browser")

    monkeypatch.setitem(PARTS, "throughput", broken)
    monkeypatch.setitem(PARTS, "latency", lambda scale: [Row("memory", "the other", 650.0, "events/s")])
    page = tmp_path / PAGE.name
    page.write_text(f"{BEGIN}\nold\n{END}\n", encoding="utf-8")
    with pytest.raises(ExceptionGroup, match="not measured"):
        run(["throughput", "latency"], QUICK, page)
    assert "the other" in capsys.readouterr().out
    assert "old" in page.read_text(encoding="utf-8")


def test_table_says_what_is_met_and_by_how_much_not() -> None:
    """Bars of ratios and of figures, in both directions."""
    rows = [
        Row("memory", "fast", 650.0, "events/s", "limit", 1000.0, 0.65, Bar("≥", 0.65)),
        Row("memory", "slow", 64.0, "events/s", "limit", 100.0, 0.64, Bar("≥", 0.65)),
        Row("memory", "late", 1.0, "s", bar=Bar("<", 1, "s")),
        Row("memory", "no bar", 9000.5, "ns", "the step before", 9100.5, added=-100.0),
    ]
    assert [row.met for row in rows] == [True, False, False, None]
    text = as_text(rows)
    assert "1 of 3 bars met, missed:" in text
    assert "  memory, slow: 0.64 of limit, the bar is ≥ 0.65" in text
    assert "  memory, late: 1 s, the bar is < 1 s" in text
    assert "-100 ns" in text
    assert "| slow | 64.0 events/s | limit | 100.0 events/s | 0.64 | ≥ 0.65 | **missed** |" in as_markdown(rows, [])


def test_page_has_room_for_the_table(tmp_path: Path) -> None:
    """The real page has both markers; one without them is refused."""
    copy = tmp_path / PAGE.name
    copy.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    write(copy, "measured anew")
    assert f"{BEGIN}\n\nmeasured anew\n{END}" in copy.read_text(encoding="utf-8")
    copy.write_text("no markers", encoding="utf-8")
    with pytest.raises(ValueError, match="expected the lines"):
        write(copy, "")


def test_machine_is_described_without_paths() -> None:
    """What figures depend on, and nothing that tells whose machine it is."""
    found = dict(describe(QUICK))
    assert set(found) == {"CPU", "memory", "kernel", "Python", "SQLite", "temporary files", "measured"}
    assert all(found.values())
    assert str(Path.home()) not in str(found)


@pytest.mark.slow
def test_a_child_that_fails_says_why() -> None:
    """The traceback of the child, not only its exit code."""
    with pytest.raises(RuntimeError, match="KeyError: 'out of order'"):
        child(cost, piece="out of order", events=1)
