"""Colours where CSS does not reach: in charts. The same as the report's, light and dark."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st


@dataclass(frozen=True)
class Tones:
    """Colours of one scheme. `series` tell subscribers apart, `heat` goes from few to many."""

    paper: str
    raised: str
    ink: str
    soft: str
    rule: str
    grid: str
    link: str
    good: str
    bad: str
    odd: str
    shade: str
    shade_ink: str
    series: tuple[str, ...]
    heat: tuple[str, ...]


LIGHT = Tones(
    paper="#fdfcfa",
    raised="#f3f0ea",
    ink="#1c1b19",
    soft="#6a665f",
    rule="#d9d4cb",
    grid="#ece8e1",
    link="#2257ad",
    good="#1f7a4d",
    bad="#b3261e",
    odd="#8f6400",
    shade="rgba(196, 110, 30, .14)",
    shade_ink="#7a4008",
    series=("#2563c4", "#b4540a", "#6d48b5", "#0d7f82", "#b0307a", "#5c6b12"),
    heat=("#e9eff9", "#a9c4ee", "#5d8fdd", "#2563c4", "#123a7d"),
)
DARK = Tones(
    paper="#161719",
    raised="#222427",
    ink="#e9e7e3",
    soft="#a5a29c",
    rule="#3a3d41",
    grid="#2a2c30",
    link="#8db6f7",
    good="#5cc491",
    bad="#ff8a7d",
    odd="#e3b341",
    shade="rgba(235, 150, 70, .16)",
    shade_ink="#efb77f",
    series=("#79aaf5", "#f0a25c", "#b79cf0", "#57c7c3", "#ee8cc2", "#b9c95a"),
    heat=("#1f2937", "#24497f", "#3b74c9", "#79aaf5", "#d5e4fd"),
)


def tones() -> Tones:
    """Those of the scheme that the browser shows now."""
    return DARK if st.context.theme.type == "dark" else LIGHT
