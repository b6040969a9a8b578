"""The page of dead letters of a running `squall serve`: a list with filters, and one letter with all that is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast, get_args

import streamlit as st

from squall.core.errors import ConfigError, Problem, SquallError, SubscriptionError
from squall.core.redrive import DeadLetterQuery
from squall.core.store import DeadReason
from squall.dashboards.choices import ANY
from squall.dashboards.markup import show_markup
from squall.dashboards.payloads import Form, forms
from squall.dashboards.service import READING_S, Service
from squall.dashboards.service_redrive import show_redrive, show_told
from squall.plugins.serve.letters import MAX_SEQ, Page, Redrive, WholeLetter

PER_PAGE = 25
PER_REDRIVE = 500
OF_ONE_EVENT = 100
"""So many subscriptions may have given up the same event, and are shown."""


@dataclass(frozen=True)
class Opened:
    """A letter that is looked at, and its payload in the forms that it has."""

    letter: WholeLetter
    forms: list[Form]


def show_service(service: Service) -> None:
    """The letters of the event that the URL names, or a list of those that it asks for; or why there are none."""
    st.html("<h1>Dead letters</h1>")
    one = "seq" in st.query_params
    if not one:
        _filters()
    try:
        query, after = _asked()
    except (ConfigError, SubscriptionError) as error:
        show_markup("service_filters.html.j2", error=str(error), one=one)
        return
    try:
        with st.spinner("Asking squall serve"):
            page = service.server(READING_S).letters(query, after)
    except SquallError as error:
        show_markup("service_error.html.j2", url=service.url, error=str(error))
        show_told()
        st.button("Ask again")
        return
    if one:
        _show_event(service, query, page)
    else:
        _show_list(service, query, page, after)


def _asked() -> tuple[DeadLetterQuery, int]:
    """What the URL asks for. Raises ConfigError and SubscriptionError."""
    given = st.query_params
    seqs = (_whole("seq", 1),) if "seq" in given else None
    reason = cast("DeadReason | None", given.get("reason") or None)
    limit = PER_PAGE if seqs is None else OF_ONE_EVENT
    query = DeadLetterQuery(given.get("subscription") or None, reason, given.get("pattern") or None, seqs, limit)
    return query, _whole("after", 0)


def _whole(name: str, least: int) -> int:
    text = st.query_params.get(name, str(least))
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_SEQ)) and int(text) >= least):
        raise ConfigError([Problem(name, f"expected a whole number, {least} or more, got {text!r:.40}")])
    return int(text)


def _filters() -> None:
    first, second, third = st.columns(3)
    with first:
        _text("Subscription, its name or id", "subscription")
    with second:
        now = st.query_params.get("reason", ANY)
        options = [ANY, *get_args(DeadReason)]
        place, key = options.index(now) if now in options else None, f"reason {now}"
        st.selectbox("Reason", options, place, key=key, on_change=_filter, args=("reason", key))
    with third:
        _text("Types, such as order.>", "pattern")


def _text(label: str, name: str) -> None:
    now = st.query_params.get(name, "")
    key = f"{name} {now}"  # another value in the URL, another widget: none keeps what it had before
    st.text_input(label, now, key=key, placeholder=ANY, on_change=_filter, args=(name, key))


def _filter(name: str, key: str) -> None:
    """A filter was changed: it goes into the URL, and the list begins anew."""
    wanted = str(st.session_state[key] or "").strip()
    others = {other: one for other, one in st.query_params.to_dict().items() if other not in (name, "after")}
    st.query_params.from_dict(others | ({} if wanted in ("", ANY) else {name: wanted}))


def _show_list(service: Service, query: DeadLetterQuery, page: Page, after: int) -> None:
    filters = {"subscription": query.subscription, "reason": query.reason, "pattern": query.pattern}
    show_markup(
        "service_letters.html.j2",
        url=service.url,
        letters=page.dead_letters,
        filters={name: one for name, one in filters.items() if one is not None},
        after=after,
        next=page.next,
    )
    if page.dead_letters:
        show_redrive(service, Redrive(query.subscription, query.reason, query.pattern, limit=PER_REDRIVE))


def _show_event(service: Service, query: DeadLetterQuery, page: Page) -> None:
    opened = [Opened(letter, forms(letter.payload_base64)) for letter in page.dead_letters]
    show_markup("service_letter.html.j2", url=service.url, seq=query.seqs and query.seqs[0], opened=opened)
    if opened:
        show_redrive(service, Redrive(query.subscription, query.reason, query.pattern, query.seqs, OF_ONE_EVENT))
