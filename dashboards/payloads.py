"""Payloads as people read them: as JSON, as text, as hex, cut where nobody would read on."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

JSON_BYTES = 200_000
TEXT_BYTES = 50_000
HEX_BYTES = 2_048
PER_LINE = 8
"""So many bytes in hex and as characters fit on a phone."""


class Form(NamedTuple):
    """A payload, or its first bytes, in one form."""

    name: str
    text: str
    shown_bytes: int


def forms(payload: bytes) -> list[Form]:
    """The forms that it has, the most telling one first; hex always."""
    found = [_json(payload), _text(payload), _hex(payload[:HEX_BYTES])]
    return [form for form in found if form is not None]


def _json(payload: bytes) -> Form | None:
    if len(payload) > JSON_BYTES:
        return None
    try:
        msgspec.json.decode(payload)
        return Form("JSON", msgspec.json.format(payload, indent=2).decode(), len(payload))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _text(payload: bytes) -> Form | None:
    cut = payload[:TEXT_BYTES]
    try:
        payload.decode()
    except UnicodeDecodeError:
        return None
    return Form("text", cut.decode(errors="ignore"), len(cut))  # a character may be cut in two


def _hex(cut: bytes) -> Form:
    lines = (
        f"{at:04x}  {cut[at : at + PER_LINE].hex(' '):<{3 * PER_LINE - 1}}  {_characters(cut[at : at + PER_LINE])}"
        for at in range(0, len(cut), PER_LINE)
    )
    return Form("hex", "\n".join(lines), len(cut))


def _characters(some: bytes) -> str:
    return "".join(chr(one) if 0x20 <= one < 0x7F else "·" for one in some)
