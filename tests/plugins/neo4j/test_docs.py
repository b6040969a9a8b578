"""What docs/neo4j.md says of the graph is so: its queries run, its tables name what is there."""

from __future__ import annotations

import re
from typing import LiteralString, cast

import pytest
from tests.core.world import Heard
from tests.docs.pages import ROOT
from tests.plugins.neo4j.graphs import ask, own, router

PAGE = (ROOT / "docs" / "neo4j.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```text\n(MATCH .*?)```", PAGE, re.DOTALL)


def test_the_page_has_queries() -> None:
    """Else the next test would prove nothing."""
    assert len(QUERIES) == 4


@pytest.mark.parametrize("query", QUERIES)
async def test_its_queries_run(neo4j_url: str, query: str) -> None:
    """On a graph that a router has set up."""
    async with router(neo4j_url):
        pass
    await ask(neo4j_url, query)


async def test_its_tables_name_what_is_in_the_graph(neo4j_url: str) -> None:
    """Labels with their properties, relationships with theirs."""
    a = own()
    async with router(neo4j_url) as squall:
        mine = await squall.subscriber(f"{a}-billing").subscribe(a, Heard(), name=a)
        await squall.publisher(f"{a}-shop").publish(a, b"")
        await squall.subscriber(f"{a}-billing").pause_subscription(mine)
    query: LiteralString = (
        "MATCH (n) WHERE NOT n:SquallSchema UNWIND labels(n) AS l UNWIND keys(n) AS k RETURN DISTINCT l, k"
    )
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|$", PAGE, re.MULTILINE))
    for label, key in await ask(neo4j_url, query):
        assert f"`{key}`" in cast(str, rows[label]), f"{label}.{key} is not in the table"
    query = "MATCH (n)-[r]->(m) RETURN DISTINCT labels(n)[0], type(r), keys(r), labels(m)[0]"
    for begin, kind, keys, end in await ask(neo4j_url, query):
        (row,) = re.findall(rf"^\| `{begin}` \| `{kind}\b.*$", PAGE, re.MULTILINE)
        assert f"`{end}`" in row
        assert all(key in row for key in keys), f"{kind} has {keys}"
