"""What stands in the log of a run."""

from __future__ import annotations

import logging
from pathlib import Path

from squall.chaos.run_log import logged_to


def test_a_lost_connection_is_one_error(tmp_path: Path) -> None:
    """The plugin's: what its driver says beside it is neither shown nor counted."""
    with logged_to(tmp_path) as log:
        logging.getLogger("neo4j.io").error("[#DC6A]  _: <CONNECTION> error")
        logging.getLogger("squall.plugins.neo4j").error("it cannot be reached")
        logging.getLogger("neo4j").warning("a retry")
    assert (log.error_count, log.warning_count) == (1, 0)
    (line,) = (tmp_path / "log.txt").read_text("utf-8").splitlines()
    assert line.endswith("ERROR   squall.plugins.neo4j: it cannot be reached")
