"""Starts the dashboard in this process, until it is told to stop."""

from __future__ import annotations

import importlib.util
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

import typer

from squall.chaos.cli.operator import ConfigOption, RunsOption, runs_folder
from squall.chaos.run_folder import find_run, run_name
from squall.core.errors import ConfigError, Problem

if TYPE_CHECKING:
    from squall.dashboards.service import Service

HOST = "127.0.0.1"


def dashboard(
    config: ConfigOption = None,
    runs: RunsOption = None,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="the run to look at first")] = None,
    spans: Annotated[
        Path | None,
        typer.Option("--spans", metavar="DIR", help="spans of a service: the folder that its tracing plugin writes"),
    ] = None,
    port: Annotated[int, typer.Option(help="to listen on, at 127.0.0.1; 0: any free one", min=0, max=65535)] = 8501,
    service: Annotated[
        str | None, typer.Option("--service", metavar="URL", help="a running squall serve: its dead letters are shown")
    ] = None,
    token: Annotated[
        str | None, typer.Option("--token", metavar="SECRET", help="of the service: where it is, env:NAME or file:PATH")
    ] = None,
    allow_changes: Annotated[
        bool,
        typer.Option("--allow-changes", help="its dead letters may be given back: a password is printed for that"),
    ] = False,
) -> int:
    """Look at runs in a browser, and at the traces of a service.

    It shows what is in these folders, and changes nothing there. With --service it shows the dead letters of a running
    squall serve too, and changes nothing there without --allow-changes. Ctrl-C stops it.

    \b
    Example:
      squall dashboard
      squall dashboard --run first-storm --port 8600
      squall dashboard --service http://127.0.0.1:8787 --allow-changes
      squall dashboard --spans spans
    """
    if importlib.util.find_spec("streamlit") is None:
        raise ConfigError("dashboard needs streamlit: pip install 'squall[dashboard]'")
    from squall.dashboards.service import chosen_service

    asked = chosen_service(service, token, allow_changes=allow_changes)
    folder, traces = runs_folder(config, runs).resolve(), spans.resolve() if spans is not None else None
    for one in (traces, folder if traces is None or runs is not None else None):
        if one is not None and not one.is_dir():
            told = "there is no such folder yet. What is written into it will show; --runs and --spans name others"
            typer.echo(f"warning: {one}: {told}", err=True)
    view = "service_traces" if spans is not None else ""
    if run is not None:
        view = f"overview?{urlencode({'run': run_name(find_run(folder, run))}, safe='/')}"
    with listening(port) as taken:
        from squall.dashboards.app import all_pages
        from squall.dashboards.server import make_server
        from squall.dashboards.span_pages import SERVICE

        server = make_server(folder, taken, [*all_pages(), SERVICE], asked, traces)

        def stop(number: int, frame: object) -> None:
            """Until the server answers signals itself, and when it raises them anew because it has stopped."""
            server.should_exit = True

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        print(f"squall dashboard: http://{HOST}:{taken.getsockname()[1]}/{view}", flush=True)  # noqa: T201  what was asked for
        also = "" if traces is None else f" and the spans in {traces}"
        print(f"shows the runs in {folder}{also}; Ctrl-C stops it", flush=True)  # noqa: T201
        if asked is not None:
            print(told_of(asked), flush=True)  # noqa: T201
        server.run(sockets=[taken])
    return 0


def told_of(service: Service) -> str:
    """What is said of the service when it starts, the password among it."""
    told = f"and the dead letters of squall serve at {service.url}"
    if service.password is None:
        return f"{told}, and changes nothing there"
    return f"{told}\nto give some of them back, tell the page this password: {service.password}"


def listening(port: int) -> socket.socket:
    """A socket that listens on loopback. Raises ConfigError when something else does."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((HOST, port))
        made.listen()
    except OSError as error:
        made.close()
        hint = "choose another: squall dashboard --port 0 takes any that is free"
        raise ConfigError([Problem("--port", f"{HOST}:{port}: {error.strerror}", hint=hint)]) from error
    return made
