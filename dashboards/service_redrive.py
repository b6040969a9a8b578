"""Dead letters of a running `squall serve`, given back: first a dry run that shows which, then just those."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import streamlit as st

from squall.core.errors import OutdatedToken, SquallError
from squall.core.redrive import MAX_PER_SECOND
from squall.dashboards.markup import show_markup
from squall.dashboards.service import CHANGING_S, READING_S, Service
from squall.plugins.serve.asking import Unanswered
from squall.plugins.serve.letters import Plan, Redrive, Redriven

REDRIVING, TRUSTED, PASSWORD, PER_SECOND = "redriving", "trusted", "password", "per_second"
"""Names in the session of a browser's tab."""


@dataclass(frozen=True)
class Trouble:
    """Why nothing was given back, or why nobody knows."""

    kind: Literal["password", "outdated", "refused", "unknown", "dry"]
    error: str = ""


@dataclass
class Redriving:
    """What a tab asks for: its dry run, what was given back, and what went wrong.

    It is changed in place when an answer comes: whoever clicks meanwhile ends the script that waits for it, but not
    the one that shows what became of it.
    """

    asked: Redrive
    plan: Plan | None = None
    given: Redriven | None = None
    trouble: Trouble | None = None


def show_redrive(service: Service, asked: Redrive) -> None:
    """A button for the dry run of these; what it showed, and a form to do just that; what became of it."""
    now = st.session_state.get(REDRIVING)
    if not isinstance(now, Redriving) or now.asked != asked:
        now = st.session_state[REDRIVING] = Redriving(asked)
    show_markup("service_redrive.html.j2")
    show_told()
    if now.plan is not None and now.plan.dead_letters:
        show_markup("service_plan.html.j2", plan=now.plan)
        _confirm(service, now, len(now.plan.dead_letters))
    st.button(
        "Dry run: what would be given back?" if now.plan is None else "Dry run again",
        on_click=_plan,
        args=(service, now),
    )


def show_told() -> None:
    """What became of what this tab has asked for, if anything: also where the service tells nothing any more."""
    now = st.session_state.get(REDRIVING)
    if isinstance(now, Redriving) and (now.given or now.trouble or (now.plan and not now.plan.dead_letters)):
        show_markup("service_told.html.j2", redriving=now)


def _confirm(service: Service, now: Redriving, count: int) -> None:
    if service.password is None:
        show_markup("service_looks_only.html.j2", url=service.url)
        return
    with st.form("confirm", border=False, enter_to_submit=False):
        if not st.session_state.get(TRUSTED):
            st.text_input("Password that squall dashboard printed", key=PASSWORD, autocomplete="off")
        st.number_input(
            "At most so many are delivered per second", 0.01, MAX_PER_SECOND, 100.0, key=PER_SECOND, width=320
        )
        label = f"Give {'this one' if count == 1 else f'these {count:,}'} back"
        st.form_submit_button(label, type="primary", on_click=_give_back, args=(service, now))


def _plan(service: Service, now: Redriving) -> None:
    now.plan = now.given = now.trouble = None
    answer = _ask(service, now, now.asked)
    now.plan = answer if isinstance(answer, Plan) else None


def _give_back(service: Service, now: Redriving) -> None:
    """What the dry run showed, and nothing else, by who may change something."""
    trusted = st.session_state.get(TRUSTED) and service.password is not None
    if not trusted and not service.lets_change(str(st.session_state.get(PASSWORD, ""))):
        now.trouble = Trouble("password")
        return
    st.session_state[TRUSTED] = True
    per_second = float(st.session_state[PER_SECOND])
    plan, now.plan, now.given, now.trouble = now.plan, None, None, None
    if plan is not None:
        answer = _ask(service, now, msgspec.structs.replace(now.asked, token=plan.token, per_second=per_second))
        now.given = answer if isinstance(answer, Redriven) else None


def _ask(service: Service, now: Redriving, asked: Redrive) -> Plan | Redriven | None:
    """None: it is said what went wrong."""
    try:
        return service.server(READING_S if asked.token is None else CHANGING_S).redrive(asked)
    except OutdatedToken as error:
        now.trouble = Trouble("outdated", str(error))
    except Unanswered as error:
        now.trouble = Trouble("dry" if asked.token is None else "unknown", str(error))
    except SquallError as error:
        now.trouble = Trouble("dry" if asked.token is None else "refused", str(error))
    return None
