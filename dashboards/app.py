"""The dashboard as a whole: which pages there are, which run is looked at, and the way from one page to another."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import streamlit as st

from squall.chaos.catalogue import load_classes
from squall.chaos.run_folder import find_run, list_runs, run_name
from squall.core.dashboard import DashboardPage, Look
from squall.core.errors import ConfigError, SquallError, WiringError
from squall.core.wiring import Registry
from squall.dashboards import assets
from squall.dashboards.compare import newest_pair
from squall.dashboards.live_data import EVERY_S
from squall.dashboards.markup import plain, show_markup
from squall.dashboards.service import Service
from squall.dashboards.service_letters import show_service
from squall.dashboards.span_pages import SERVICE, show_spans

FIRST = "runs"
LETTERS = "dead_letters"
PAIR = "compare"
TITLE = 60
"""So many characters of a run's name stand in the title of a browser's tab."""
OF_ALL_RUNS = ("", FIRST, "live", "sweeps", SERVICE)
"""Pages that are of no single run, by their names in URLs."""


def show(runs: Path, service: Service | None = None, spans: Path | None = None) -> None:
    """The page that the URL names, of the run that it names, or of a service, which needs no run: what Streamlit runs.

    `service`: the one whose dead letters are asked for. `spans`: the folder of what a service traced.
    """
    st.set_page_config(page_title="squall", page_icon="🌩️", layout="wide", initial_sidebar_state="auto")
    st.html(f"<style>{assets.text('style.css')}</style>")
    try:
        pages = all_pages()
    except SquallError as error:
        show_markup("error.html.j2", title="The dashboard cannot show its pages", error=str(error))
        return
    shown = {name: partial(show_page, runs, page) for name, page in pages.items()}
    shown[LETTERS] = partial(show_letters, runs, pages[LETTERS], service)
    made = {
        name: st.Page(shown[name], title=page.title, url_path=name, default=name == FIRST)
        for name, page in pages.items()
    }
    title = "Service traces"
    made[SERVICE] = st.Page(partial(show_traced, title, spans), title=title, url_path=SERVICE)
    current = st.navigation(list(made.values()), position="hidden")
    _name_run(current.url_path, runs)
    run = st.query_params.get("run") if current.url_path not in OF_ALL_RUNS else None
    st.set_page_config(page_title=" · ".join(plain(one, TITLE) for one in (current.title, run, "squall") if one))
    _sidebar(made, runs)
    current.run()
    _follow_links(made)


def all_pages() -> dict[str, DashboardPage]:
    """The pages of all installed plugins, by their names in URLs, squall's own first. Raises WiringError."""
    classes = [kind for kind in load_classes().values() if not isinstance(kind, str)]
    offering = [kind for kind in classes if hasattr(kind, "squall_dashboard_pages")]
    own = [kind for kind in offering if kind.__module__.startswith("squall.dashboards.")]
    found: dict[str, DashboardPage] = {}
    for kind in [*own, *(kind for kind in offering if kind not in own)]:
        for answer in Registry([kind()]).ask("squall_dashboard_pages"):
            for name, page in _pages(answer, kind.__name__).items():
                if name in found:
                    raise WiringError(f"plugin {kind.__name__}: there is a dashboard page '{name}' already")
                found[name] = page
    return found


def _pages(answer: object, plugin: str) -> Mapping[str, DashboardPage]:
    right = isinstance(answer, Mapping) and all(
        isinstance(name, str) and name.isidentifier() and isinstance(page, DashboardPage)
        for name, page in answer.items()
    )
    if not right:
        raise WiringError(
            f"plugin {plugin}: squall_dashboard_pages returned {answer!r:.80}, expected pages by names like my_page"
        )
    return answer  # type: ignore[return-value]  # as was looked at


def show_page(runs: Path, page: DashboardPage) -> None:
    """One page of a run, or what to do where there is none; or why it cannot be shown."""
    with _told(page.title):
        if list_runs(runs):
            page.show(Look(runs, chosen_run(runs)))
        else:
            _until_the_first_run(runs)


@st.fragment(run_every=EVERY_S)
def _until_the_first_run(runs: Path) -> None:
    if list_runs(runs):
        st.rerun()
    show_markup("no_runs.html.j2", runs=str(runs))


def show_letters(runs: Path, page: DashboardPage, service: Service | None) -> None:
    """The page of dead letters: those of a run, or those of the service, whichever the URL says."""
    of_service = st.query_params.get("source") == "service"
    if service is not None:
        show_markup("sources.html.j2", of_service=of_service)
    if not of_service:
        show_page(runs, page)
        if service is None:
            show_markup("service_hint.html.j2")
    elif service is None:
        show_markup("no_service.html.j2")
    else:
        with _told(page.title):
            show_service(service)


def show_traced(title: str, spans: Path | None) -> None:
    """What a service traced, or why it cannot be shown, or how to start the dashboard so that it can be."""
    if spans is None:
        show_markup("no_service_traces.html.j2")
        return
    with _told(title):
        show_spans(spans)


@contextmanager
def _told(title: str) -> Iterator[None]:
    """Whatever is raised within is said on the page, and what to do then."""
    try:
        yield
    except (SquallError, OSError) as error:
        show_markup("error.html.j2", title="This cannot be shown", error=str(error))
    except Exception as error:
        logging.getLogger("squall").exception("page %s", title)
        told = f"{type(error).__name__}: {error}"
        show_markup("error.html.j2", title=f"The page {title} raised an error", error=told)


def chosen_run(runs: Path) -> Path:
    """The run that the URL names; without a name, the newest. Raises ConfigError that names what there is."""
    return find_run(runs, st.query_params.get("run") or "latest")


def _name_run(page: str, runs: Path) -> None:
    """Write the run that is looked at into the address of its page: it stays there when another one is made."""
    given = st.query_params
    of_service = page == LETTERS and given.get("source") == "service"
    elsewhere = of_service or (page == PAIR and "a" in given and "b" in given)
    if page not in OF_ALL_RUNS and not elsewhere and "run" not in given and list_runs(runs):
        given["run"] = run_name(newest_pair(runs) if page == PAIR else chosen_run(runs))


def _sidebar(pages: Mapping[str, st.Page], runs: Path) -> None:
    with st.sidebar:
        show_markup("brand.html.j2")
        names = [run_name(folder) for folder in list_runs(runs)]
        try:
            now = run_name(chosen_run(runs))
        except ConfigError:
            now = None
        if names:
            place = names.index(now) if now in names else None
            key = f"run {now}"  # another run, another widget: none keeps the value that it had for the run before
            none = "there is no such run"
            st.selectbox("Run", names, place, key=key, on_change=_choose, args=(key,), placeholder=none)
        chosen = "run" in st.query_params
        for name, page in pages.items():
            query = {"run": now} if now is not None and (chosen or name != PAIR) else {}
            st.page_link(page, label=plain(page.title), query_params=query, width="stretch")


def _choose(key: str) -> None:
    """Another run was chosen: the same page of it, without what belonged to the one before."""
    st.query_params.from_dict({"run": st.session_state[key]})


def _follow_links(pages: Mapping[str, st.Page]) -> None:
    """Links in what pages show: followed without loading everything anew. Where the browser shows another scheme than
    this run of the script knew, that it says so is enough: it runs again."""
    data = {"run": st.query_params.get("run", ""), "scheme": st.context.theme.type}
    asked = assets.links()(key="links", data=data, on_go_change=lambda: None, on_scheme_change=lambda: None).go
    if asked:
        url = urlsplit(str(asked))
        if url.path in pages:
            st.switch_page(pages[url.path], query_params=parse_qsl(url.query))
