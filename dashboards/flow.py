"""The page of the flow: who published which types of events, whom they went to, how much, what became of them, and what
was refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from squall.chaos.report.words import share
from squall.chaos.run_folder import run_name
from squall.core.dashboard import Look
from squall.dashboards.charts import Spec
from squall.dashboards.choices import SHORT
from squall.dashboards.markup import plain, show_markup
from squall.dashboards.nothing import show_nothing
from squall.dashboards.reading import contents, has_history, history, stamp
from squall.dashboards.tones import Tones, tones

MOST_FLOWS = 60
SHOWN = 500
OUTCOMES = ("handled", "handled after retries", "dead-lettered", "never handled", "delivered to nobody")


@dataclass(frozen=True)
class Flow:
    """From a type to a subscriber: deliveries by what became of them, attempts and those that failed. Of what was taken
    on and no subscriber had, `subscriber` is None."""

    type: str
    subscriber: str | None
    outcomes: tuple[int, int, int, int, int]
    attempts: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        return sum(self.outcomes)

    @property
    def deliveries(self) -> int:
        return self.total if self.subscriber is not None else 0

    @property
    def linkable(self) -> bool:
        """Whether its names are fit for a URL, as all are that a router would take."""
        return self.subscriber is not None and all(plain(one, SHORT) == one for one in (self.type, self.subscriber))

    @property
    def failed_share(self) -> str:
        return share(self.failed, self.attempts)

    @property
    def told(self) -> tuple[tuple[str, int], ...]:
        """Each outcome that there was, with how many."""
        return tuple((name, count) for name, count in zip(OUTCOMES, self.outcomes, strict=True) if count)


@dataclass(frozen=True)
class Published:
    """Events of a type that a publisher had taken on, each once, and its calls of publish."""

    publisher: str
    type: str
    events: int
    calls: int


@dataclass(frozen=True)
class Refused:
    """Publishes of a type that were refused, of so many: they never became events that anybody could be owed."""

    type: str
    published: int
    refused: int

    @property
    def share(self) -> str:
        return share(self.refused, self.published)


@dataclass(frozen=True)
class Flows:
    """What went to whom, the most first; what went nowhere, because its publisher was told no; and who published."""

    ways: tuple[Flow, ...]
    refused: tuple[Refused, ...]
    published: tuple[Published, ...]


def show_flow(look: Look) -> None:
    """As a graph, and as tables."""
    found = _flows(str(look.run), stamp(look.run)) if has_history(look.run) else Flows((), (), ())
    st.html("<h1>Flow</h1>")
    if not found.ways and not found.refused:
        show_nothing(look)
        return
    if found.ways:
        _ways(look, found)
    if found.refused:
        show_markup("flow_refused.html.j2", refused=found.refused[:SHOWN])


def _ways(look: Look, found: Flows) -> None:
    flows = found.ways
    show_markup("flow_hint.html.j2", shown=min(len(flows), MOST_FLOWS), total=len(flows))
    st.echarts_chart(
        sankey(flows[:MOST_FLOWS], found.published, tones()),
        height=160 + 44 * min(12, max(len({f.type for f in flows}), len({f.subscriber for f in flows}), 4)),
        key="flow",
        alt="Publishers, types of events, the subscribers that they went to, what became of them; the tables tell it.",
    )
    seconds = _seconds(look.run)
    show_markup("flow.html.j2", flows=flows[:SHOWN], run=run_name(look.run), seconds=seconds)
    show_markup("flow_published.html.j2", published=found.published[:SHOWN], seconds=seconds)


def _seconds(folder: Path) -> float | None:
    load = contents(folder).facts.load
    return (load.ended - load.begun) / 1e9 if load and load.ended > load.begun else None


@st.cache_resource(max_entries=12, show_spinner="Reading the run")
def _flows(folder: str, changed: int) -> Flows:
    with history(Path(folder)) as db:
        db.execute(
            """CREATE TEMP TABLE kind AS SELECT event, any_value(coalesce(t.name, 'unknown type')) AS type,
                bool_or(outcome <> 'fail') AS taken
            FROM publish p LEFT JOIN topic t ON t.topic = p.type GROUP BY event"""
        )
        delivered = db.execute(
            """WITH pair AS (
                SELECT subscription, event, count(*) AS tries, min(ended) FILTER (result = 'ok') AS done,
                    count(*) FILTER (result IN ('error', 'timeout', 'died')) AS failed
                FROM attempt WHERE event IS NOT NULL GROUP BY ALL
            ), dead AS (SELECT DISTINCT subscription, event, true AS dead FROM terminal WHERE state = 'dead_lettered'),
            named AS (SELECT subscription, any_value(name) AS name FROM subscription GROUP BY ALL)
            SELECT coalesce(type, 'never published'), coalesce(name, 'subscription ' || subscription),
                count(*) FILTER (done IS NOT NULL AND tries = 1), count(*) FILTER (done IS NOT NULL AND tries > 1),
                count(*) FILTER (done IS NULL AND dead), count(*) FILTER (done IS NULL AND dead IS NULL),
                sum(tries)::BIGINT, sum(failed)::BIGINT
            FROM pair LEFT JOIN kind USING (event) LEFT JOIN dead USING (subscription, event)
                LEFT JOIN named USING (subscription)
            GROUP BY ALL"""
        ).fetchall()
        alone = db.execute(
            """SELECT type, count(*) FROM kind
            WHERE taken AND event NOT IN (SELECT event FROM attempt WHERE event IS NOT NULL) GROUP BY type"""
        ).fetchall()
        published = db.execute(
            """WITH named AS (
                SELECT process, any_value(name) AS name FROM process WHERE role <> 'target' GROUP BY ALL)
            SELECT coalesce(n.name, 'bench') AS publisher, coalesce(t.name, 'unknown type') AS type,
                count(DISTINCT event) FILTER (outcome <> 'fail') AS events, count(*) AS calls
            FROM publish p LEFT JOIN topic t ON t.topic = p.type LEFT JOIN named n USING (process)
            GROUP BY ALL ORDER BY events DESC, publisher, type"""
        ).fetchall()
        refused = db.execute(
            """SELECT type, published, refused FROM (
                SELECT coalesce(t.name, 'unknown type') AS type, count(*) AS published,
                    count(*) FILTER (outcome = 'fail') AS refused
                FROM publish p LEFT JOIN topic t ON t.topic = p.type GROUP BY ALL)
            WHERE refused > 0 ORDER BY refused DESC, type"""
        ).fetchall()
    flows = [Flow(kind, name, (a, b, c, d, 0), tries, failed) for kind, name, a, b, c, d, tries, failed in delivered]
    flows += [Flow(kind, None, (0, 0, 0, 0, nobody)) for kind, nobody in alone]
    ways = sorted(flows, key=lambda flow: (-flow.total, flow.type))
    return Flows(tuple(ways), tuple(Refused(*row) for row in refused), tuple(Published(*row) for row in published))


def sankey(flows: tuple[Flow, ...], published: tuple[Published, ...], tones: Tones) -> Spec:
    """From publishers through types and subscribers to what became of them. Width by how many, red by how many attempts
    failed."""
    end_tones = (tones.good, tones.series[3], tones.series[4], tones.bad, tones.soft)
    nodes: dict[str, Spec] = {}
    links: dict[tuple[str, str], Spec] = {}

    def add(source: str, target: str, value: int, color: str) -> None:
        found = links.setdefault((source, target), {"source": source, "target": target, "value": 0})
        found["value"] = int(str(found["value"])) + value
        found["lineStyle"] = {"color": color, "opacity": 0.45}

    def node(column: int, text: str, color: str) -> str:
        # What ECharts tells nodes apart by is what it shows: invisible spaces keep a type and a subscriber of one name
        # two. The column is said, too: a type that nobody published would stand among the publishers.
        name = plain(text, 40) + "\u200b" * column
        nodes.setdefault(name, {"name": name, "depth": column, "itemStyle": {"color": color, "borderWidth": 0}})
        return name

    shown = {flow.type for flow in flows}
    for one in published:
        if one.events and one.type in shown:
            start = node(0, one.publisher, tones.series[1])
            add(start, node(1, one.type, tones.series[2]), one.events, tones.soft)
    for flow in flows:
        start = node(1, flow.type, tones.series[2])
        middle = start
        if flow.subscriber is not None:
            middle = node(2, flow.subscriber, tones.series[0])
            add(start, middle, flow.total, tones.bad if flow.failed * 20 > flow.attempts else tones.soft)
        for outcome, count, color in zip(OUTCOMES, flow.outcomes, end_tones, strict=True):
            if count:
                add(middle, node(3, outcome, color), count, color)
    return {
        "animation": False,
        "tooltip": {"trigger": "item", "confine": True},
        "series": [
            {
                "type": "sankey",
                "left": 4,
                "right": 4,
                "top": 26,
                "bottom": 8,
                "nodeWidth": 12,
                "nodeGap": 26,
                "draggable": False,
                "data": list(nodes.values()),
                "links": list(links.values()),
                "label": {"position": "top", "color": tones.ink, "fontSize": 12, "width": 130, "overflow": "truncate"},
                "levels": [
                    {"depth": 0, "label": {"position": [0, -16]}},
                    {"depth": 1, "label": {"position": [0, -16]}},
                    {"depth": 2, "label": {"position": [0, -16]}},
                    {"depth": 3, "label": {"position": [12, -16], "align": "right"}},
                ],
            }
        ],
    }
