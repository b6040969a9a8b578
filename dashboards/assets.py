"""What the browser is given besides Streamlit: a stylesheet, and the scripts of components."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from streamlit.components.v2.types import ComponentRenderer

FOLDER = Path(__file__).with_name("assets")


@cache
def text(name: str) -> str:
    """The text of a file of assets/."""
    return (FOLDER / name).read_text(encoding="utf-8")


@cache
def links() -> ComponentRenderer:
    """Tells as `go` which link marked `data-page` was clicked."""
    return st.components.v2.component("squall_links", js=text("links.js"))


@cache
def waterfall() -> ComponentRenderer:
    """Draws spans on an axis of time; tells as `event` whose row was clicked."""
    return st.components.v2.component(
        "squall_waterfall", html=text("waterfall.html"), css=text("waterfall.css"), js=text("waterfall.js")
    )
