"""Texts of others, made fit to be printed."""

from __future__ import annotations

import re

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls: a terminal would obey them
    "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"  # these turn the direction of what is read
    "\ud800-\udfff]"  # half characters: bytes of a path that are not UTF-8
)


def visible(text: str) -> str:
    """The text with a visible sign in place of each character that would do something instead of being seen."""
    return _HIDDEN.sub(_sign, text)


def _sign(match: re.Match[str]) -> str:
    code = ord(match[0])
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"
