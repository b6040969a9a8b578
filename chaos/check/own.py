"""Invariants that plugins bring: the rows that break them, found by their own SQL."""

from __future__ import annotations

import re

from squall.chaos.check.case import Case
from squall.chaos.check.verdict import Finding, counted
from squall.core.invariant import Invariant

NAMED = re.compile(r"\$([A-Za-z_]\w*)")
"""An option in the SQL."""


def invariant(case: Case, wanted: Invariant) -> Finding:
    """What became of it. Whatever DuckDB says against its SQL is raised. A scenario's options are given as values and
    never become SQL: the plugin is the operator's, the scenario need not be."""
    options = wanted.model_dump(by_alias=True)
    given = {name: options[name] for name in NAMED.findall(wanted.sql)}
    table = f"own_{wanted.name}"
    case.db.execute(
        f"CREATE OR REPLACE TEMP TABLE {table} (what TEXT, event BIGINT, subscription INTEGER, time BIGINT)"
    )
    case.db.execute(f"INSERT INTO {table} BY NAME {wanted.sql}", given or None)
    what = f"coalesce(what, 'it breaks {wanted.name}')"
    nobody = "NULL::INTEGER AS key, NULL::BIGINT AS witness"
    rows = f"SELECT {what}, event, subscription, {nobody}, time, NULL AS loss FROM {table}"
    count, violations = case.violations(wanted.name, rows)
    summary = counted(count, "violation") if count else "nothing breaks it"
    return Finding(wanted.name, "invalid" if count else "valid", summary, {"violations": count}, count, violations)
