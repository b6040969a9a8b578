"""Histories are written in chunks, read while they grow, and refused when they are not whole."""

from __future__ import annotations

import subprocess
import sys
import threading
from array import array
from pathlib import Path

import pyarrow as pa
import pytest

from squall.chaos.history import NULL, HistoryWriter, open_history
from squall.chaos.history.tables import TABLES
from squall.core.errors import StoreFileError


def attempts(begun: list[int], subscription: int = 0) -> dict[str, array[int] | list[str | None]]:
    """Columns of attempts that begin at the given times and never end."""
    rows = len(begun)
    return {
        "event": array("q", begun),
        "subscription": array("q", [subscription] * rows),
        "attempt": array("q", [1] * rows),
        "process": array("q", [0] * rows),
        "worker": array("q", [0] * rows),
        "key": array("q", [NULL] * rows),
        "priority": array("q", [2] * rows),
        "begun": array("q", begun),
        "result": [None] * rows,
        "by_handler": array("b", [0] * rows),
    }


def written(folder: Path) -> HistoryWriter:
    """A finished history of two topics."""
    writer = HistoryWriter(folder)
    writer.append("topic", {"topic": [0, 1], "name": ["order.created", "order.paid"]})
    writer.compact()
    return writer


def test_chunks_can_be_read_while_more_come(tmp_path: Path) -> None:
    """A reader sees whole chunks only, and tables without any chunk are empty, not missing."""
    writer = HistoryWriter(tmp_path / "h")
    writer.append("attempt", attempts([5, 3]))
    (tmp_path / "h" / "attempt-000001.tmp-1").write_bytes(b"half a chunk")
    with open_history(tmp_path / "h") as connection:
        assert connection.execute("SELECT list(begun ORDER BY begun) FROM attempt").fetchone() == ([3, 5],)
        assert connection.execute("SELECT count(*) FROM publish").fetchone() == (0,)


IMPORTS = """\
import sys
from pathlib import Path
from squall.chaos.history import HistoryWriter
writer = HistoryWriter(Path(sys.argv[1]))
before = set(sys.modules)
writer.append("topic", {"topic": [0], "name": ["order.created"]})
print(sorted(set(sys.modules) - before))
writer.append("attempt", {**dict.fromkeys(("subscription", "attempt", "process", "worker", "priority"), [1, 2]),
                          "begun": [5, 6], "result": ["ok", None], "by_handler": [True, False]})
writer.compact()
print("pandas" in sys.modules)
"""


@pytest.mark.slow  # a process
def test_nothing_is_left_to_import_when_the_first_rows_come(tmp_path: Path) -> None:
    """Whoever imports holds up the loop that events pass through. Nor is pandas imported before or afterwards, which no
    row needs, and each run would wait for."""
    pytest.importorskip("pandas")
    command = [sys.executable, "-c", IMPORTS, str(tmp_path / "h")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\nFalse\n"


def test_a_column_may_be_a_list_whatever_it_holds(tmp_path: Path) -> None:
    """Numbers, flags, words and texts of any script come back as they went, and so does that there is none."""
    writer = HistoryWriter(tmp_path / "h")
    given: dict[str, list[object]] = {
        "name": ["ünïcödé 🎉", "", "x" * 300],
        "kind": ["a", "b", "c"],
        "seam": ["s"] * 3,
        "begun": [1, 2, 1 << 62],
    }
    given |= {"ended": [None, 5, -7], "healed": [True, None, False], "error": [None, "", "é"]}
    for name, kind in ((field.name, field.type) for field in TABLES["fault"]):
        given.setdefault(name, ["?"] * 3 if kind == pa.string() else [3] * 3)
    writer.rewrite("fault", given)
    writer.append("attempt", attempts([1, 2, 3]) | {"result": ["died", None, "ok"]})
    with open_history(tmp_path / "h") as connection:
        columns = ", ".join(given)
        assert connection.execute(f"SELECT {columns} FROM fault ORDER BY rid").fetchall() == [
            *zip(*given.values(), strict=True)
        ]
        found = connection.execute("SELECT result FROM attempt ORDER BY begun").fetchall()
    assert found == [("died",), (None,), ("ok",)]


def test_compaction_sorts_by_time_and_keeps_written_order_of_ties(tmp_path: Path) -> None:
    """One file a table remains; among equal times the row written first comes first."""
    writer = HistoryWriter(tmp_path / "h")
    writer.append("attempt", attempts([9, 4]))
    writer.append("attempt", {**attempts([4, 1]), "worker": array("q", [7, 7])})
    writer.compact()
    assert sorted(path.name for path in (tmp_path / "h").glob("attempt*")) == ["attempt.parquet"]
    with open_history(tmp_path / "h") as connection:
        rows = connection.execute("SELECT begun, worker FROM attempt ORDER BY rid").fetchall()
    assert rows == [(1, 7), (4, 0), (4, 7), (9, 0)]


def test_a_table_that_is_written_anew_has_its_last_rows_alone(tmp_path: Path) -> None:
    """While it grows, and at the end."""
    writer = HistoryWriter(tmp_path / "h")
    for names in (["order"], ["order", "stock"], ["stock", "order"]):
        writer.rewrite("topic", {"topic": list(range(len(names))), "name": names})
        with open_history(tmp_path / "h") as connection:
            assert connection.execute("SELECT list(name ORDER BY topic) FROM topic").fetchall() == [(names,)]
    writer.compact()
    with open_history(tmp_path / "h") as connection:
        assert connection.execute("SELECT list(name ORDER BY topic) FROM topic").fetchall() == [(["stock", "order"],)]


def test_words_and_absent_values_round_trip(tmp_path: Path) -> None:
    """Codes and words mean the same, and NULL in an array is NULL in SQL."""
    writer = HistoryWriter(tmp_path / "h")
    writer.append("attempt", {**attempts([1, 2]), "result": array("q", [1, NULL]), "settlement": ["nak", None]})
    with open_history(tmp_path / "h") as connection:
        rows = connection.execute("SELECT result, settlement, key, seq FROM attempt ORDER BY rid").fetchall()
    assert rows == [("error", "nak", None, None), (None, None, None, None)]


def test_threads_may_append_at_once(tmp_path: Path) -> None:
    """No chunk overwrites another."""
    writer = HistoryWriter(tmp_path / "h")

    def record(base: int) -> None:
        for number in range(20):
            writer.append("attempt", attempts([base + number]))

    threads = [threading.Thread(target=record, args=(base,)) for base in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.compact()
    with open_history(tmp_path / "h") as connection:
        assert connection.execute("SELECT count(DISTINCT event) FROM attempt").fetchone() == (60,)
    assert writer.rows["attempt"] == 60


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"topic": [1]}, "column name is missing"),
        ({"topic": [1], "name": ["a"], "nmae": ["b"]}, "has no column nmae"),
        ({"topic": [1, 2], "name": ["a"]}, "differ in length"),
        ({"topic": [None], "name": ["a"]}, "column topic has rows without a value"),
        ({"topic": [1], "name": [None]}, "column name has rows without a value"),
        ({"topic": ["a"], "name": ["a"]}, "'str' object cannot be interpreted as an integer"),
        ({"topic": [1], "name": [7]}, "doesn't apply to a 'int' object"),
        ({"topic": [1 << 40], "name": ["a"]}, "not in range"),
    ],
)
def test_columns_that_do_not_fit_are_refused_and_remembered(
    tmp_path: Path, columns: dict[str, list[object]], says: str
) -> None:
    """A row that could not be recorded must not vanish silently."""
    writer = HistoryWriter(tmp_path / "h")
    with pytest.raises(ValueError, match=says):
        writer.append("topic", columns)
    assert says in writer.failures[0]


def test_an_unknown_word_is_refused(tmp_path: Path) -> None:
    """A typing error in a word names the vocabulary."""
    writer = HistoryWriter(tmp_path / "h")
    with pytest.raises(ValueError, match="expected one of ok, error, timeout, died, got fine"):
        writer.append("attempt", {**attempts([1]), "result": ["fine"]})


def test_a_chunk_that_cannot_be_written_is_raised_and_remembered(tmp_path: Path) -> None:
    """The folder vanished during the run."""
    writer = HistoryWriter(tmp_path / "h")
    (tmp_path / "h" / "history.json").unlink()
    (tmp_path / "h").rmdir()
    with pytest.raises(StoreFileError, match="cannot be written"):
        writer.append("topic", {"topic": [0], "name": ["a"]})
    assert len(writer.failures) == 1


def test_a_folder_with_a_history_is_not_written_into(tmp_path: Path) -> None:
    """Two runs in one folder would be judged as one."""
    written(tmp_path / "h")
    with pytest.raises(StoreFileError, match="holds a history already"):
        HistoryWriter(tmp_path / "h")


def test_a_path_that_is_no_folder_is_one_clear_error(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "h").write_text("")
    with pytest.raises(StoreFileError, match="cannot be written"):
        HistoryWriter(tmp_path / "h")


def test_an_empty_folder_holds_no_history(tmp_path: Path) -> None:
    """The error says what is missing."""
    with pytest.raises(StoreFileError, match=r"holds no history \(history.json is missing\)"):
        open_history(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "other"}', '{"format": "squall-history", "version": 99}'])
def test_a_foreign_manifest_is_refused(tmp_path: Path, text: str) -> None:
    """Other people's JSON is not a history."""
    (tmp_path / "history.json").write_text(text)
    with pytest.raises(StoreFileError, match="is not a squall history"):
        open_history(tmp_path)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    """A finished history has a file for each table."""
    written(tmp_path / "h")
    (tmp_path / "h" / "attempt.parquet").unlink()
    with pytest.raises(StoreFileError, match=r"attempt.parquet: is missing"):
        open_history(tmp_path / "h")


def test_a_corrupt_table_is_named(tmp_path: Path) -> None:
    """Half a file is no file."""
    written(tmp_path / "h")
    path = tmp_path / "h" / "topic.parquet"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(StoreFileError, match=r"topic.parquet: cannot be read as Parquet"):
        open_history(tmp_path / "h")


def test_a_table_of_another_history_is_noticed(tmp_path: Path) -> None:
    """A file with other columns, or other rows than were written, does not belong here."""
    written(tmp_path / "h")
    (tmp_path / "h" / "attempt.parquet").write_bytes((tmp_path / "h" / "topic.parquet").read_bytes())
    with pytest.raises(StoreFileError, match="is not the table attempt"):
        open_history(tmp_path / "h")
    HistoryWriter(tmp_path / "other").compact()
    written(tmp_path / "third")
    (tmp_path / "third" / "topic.parquet").write_bytes((tmp_path / "other" / "topic.parquet").read_bytes())
    with pytest.raises(StoreFileError, match="has 0 rows, 2 were written"):
        open_history(tmp_path / "third")
