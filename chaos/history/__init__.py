"""The history of a run: what was published, delivered and broken, as tables in Parquet files."""

from squall.chaos.history.reader import open_history, tune
from squall.chaos.history.tables import NULL, TABLES
from squall.chaos.history.writer import HistoryWriter

__all__ = ["NULL", "TABLES", "HistoryWriter", "open_history", "tune"]
