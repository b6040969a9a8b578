"""HTML from templates, in which whatever a run contains is text and nothing else."""

from __future__ import annotations

import shutil
import sys
from functools import cache
from pathlib import Path
from urllib.parse import urlencode

import streamlit as st
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from squall.chaos.report.words import many
from squall.chaos.visible import visible
from squall.dashboards.assets import REPORT

LONGEST = 400
"""So many characters of a text are shown: payloads and names of a megabyte exist."""


def plain(text: str, longest: int = LONGEST) -> str:
    """The text as it may be shown: cut, and with a visible sign for each character that would do something."""
    cut = text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"
    return visible(cut)


def link(page: str, **query: object) -> str:
    """The address of a page of the dashboard, relative to any of them."""
    given = urlencode({name: value for name, value in query.items() if value is not None}, safe="/,")
    return f"{page}?{given}" if given else page


def _anchor(page: str, text: str, **query: object) -> Markup:
    return Markup('<a data-page href="{}">{}</a>').format(link(page, **query), plain(text))


def _finalize(value: object) -> object:
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _command() -> str:
    """How the command is called where the dashboard was started: by its name alone where a shell finds it."""
    if shutil.which("squall"):
        return "squall"
    beside = Path(sys.executable).with_name("squall")
    return str(beside.relative_to(Path.cwd())) if beside.is_relative_to(Path.cwd()) else str(beside)


@cache
def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader([Path(__file__).with_name("templates"), REPORT]),
        autoescape=True,  # whatever the template is called
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    made.globals["anchor"] = _anchor
    made.globals["squall"] = _command()
    made.filters["count"] = many
    made.filters["cut"] = lambda text, longest: Markup(escape(plain(text, longest)))
    return made


def render(template: str, **values: object) -> str:
    """A template of templates/ as HTML."""
    return _templates().get_template(template).render(values)


def show_markup(template: str, **values: object) -> None:
    """Show a template of templates/ on the page."""
    st.html(render(template, **values))
