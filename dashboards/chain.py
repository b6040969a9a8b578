"""The page of plugins: what a run's router was composed of, drawn in the order in which an event passes it."""

from __future__ import annotations

import streamlit as st

from squall.chaos.catalogue import load_classes
from squall.chaos.composition import load_composed
from squall.chaos.report.view import ways
from squall.chaos.run_folder import COMPOSED, run_name
from squall.core.dashboard import Look
from squall.dashboards.markup import show_markup


def show_chain(look: Look) -> None:
    """The chain, its plugins with their options, and what else is installed."""
    path = look.run / COMPOSED
    composed = load_composed(path) if path.exists() else None
    st.html("<h1>Plugins</h1>")
    used = {entry.name for entry in composed.plugins} if composed else set()
    others = [
        (name, kind if isinstance(kind, str) else kind.summary or (kind.__doc__ or "").partition("\n")[0])
        for name, kind in load_classes().items()
        if name not in used
    ]
    show_markup(
        "chain.html.j2",
        run=run_name(look.run),
        composed=composed,
        publish=[_step(step) for step in composed.publish] if composed else [],
        deliver=[(who, [_step(step) for step in way.split(" ⟩ ")]) for who, way in ways(composed)] if composed else [],
        others=others,
    )


def _step(step: str) -> tuple[str, str]:
    """`validate: tag` as stage and plugin; what has no stage has an empty one."""
    stage, _, name = step.rpartition(": ")
    return stage, name
