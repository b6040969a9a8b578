"""What the browser is given besides Streamlit: stylesheets, and the scripts of components."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from squall.chaos import report

if TYPE_CHECKING:
    from streamlit.components.v2.types import ComponentRenderer

FOLDER = Path(__file__).with_name("assets")
REPORT = Path(report.__file__).parent
"""Where the drawings are that reports and the dashboard share."""


@cache
def text(name: str) -> str:
    """The text of a file of assets/."""
    return (FOLDER / name).read_text(encoding="utf-8")


@cache
def plot_style() -> str:
    """The report's stylesheet of plots, for what is of class `curve` alone."""
    return f".stHtml .curve {{ {(REPORT / 'plot.css').read_text(encoding='utf-8')} }}"


@cache
def links() -> ComponentRenderer:
    """Tells as `go` which link marked `data-page` was clicked, as `scheme` that another one is shown than was drawn."""
    return st.components.v2.component("squall_links", js=text("links.js"))


@cache
def waterfall() -> ComponentRenderer:
    """Draws spans on an axis of time; tells as `event` whose row was clicked."""
    return st.components.v2.component(
        "squall_waterfall", html=text("waterfall.html"), css=text("waterfall.css"), js=text("waterfall.js")
    )
