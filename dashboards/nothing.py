"""What a page says where a run has nothing to show on it."""

from __future__ import annotations

from squall.chaos.run_folder import VERDICT, run_name
from squall.core.dashboard import Look
from squall.dashboards.live_data import going_on
from squall.dashboards.markup import show_markup
from squall.dashboards.reading import HISTORY, has_history


def show_nothing(look: Look, *, overview: bool = False) -> None:
    """That it has only begun, that its history is gone, or that there was none; each with what to do. `overview`: that
    page is where it is said."""
    gone = (look.run / VERDICT).exists() and not has_history(look.run)
    template = "nothing_yet" if going_on(look.run) else "history_gone" if gone else "nothing_recorded"
    show_markup(f"{template}.html.j2", run=run_name(look.run), overview=overview, history=str(look.run / HISTORY))
