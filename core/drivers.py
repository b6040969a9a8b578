"""What drivers of servers log themselves, beside the plugins that use them."""

from __future__ import annotations

import logging

TOLD_BY_PLUGINS = ("neo4j",)
"""The loggers of those that log each lost connection as an error, and what becomes of it not at all."""


def is_told_elsewhere(record: logging.LogRecord) -> bool:
    """Whether a plugin tells it in its own words: once, with what to do, and again when it is over."""
    return record.name.partition(".")[0] in TOLD_BY_PLUGINS
