"""The report of a run: one HTML file that needs nothing but a browser, made from the run's folder."""

from squall.chaos.report.page import write_report

__all__ = ["write_report"]
