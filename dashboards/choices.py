"""Choices on pages, kept in the URL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import duckdb
import streamlit as st

from squall.dashboards.markup import plain

ANY = "any"
SHORT = 120
SHOWN = (20, 100, 500, 2500, 10_000)


def names(
    db: duckdb.DuckDBPyConnection, table: Literal["topic", "subscription", "key"], limit: int = 1000
) -> list[str]:
    """The names in a table of names, each once, in order."""
    rows = db.execute(f"SELECT DISTINCT name FROM {table} ORDER BY name LIMIT {limit}").fetchall()
    return [name for (name,) in rows]


def choice(label: str, options: Sequence[str], key: str) -> str:
    """One of the options; the first unless the URL says another."""
    found: str = st.selectbox(label, options, key=key, bind="query-params", format_func=_short)
    return found


def any_of(label: str, options: Sequence[str], key: str) -> str | None:
    """One of the options, or None: any."""
    found = choice(label, [ANY, *options], key)
    return None if found == ANY else found


def at_most() -> int:
    """So many events or traces at once."""
    return int(choice("At most", [str(number) for number in SHOWN], "limit"))


def _short(option: str) -> str:
    return plain(option, SHORT)
