"""Starts the dashboard in this process, until it is told to stop."""

from __future__ import annotations

import importlib.util
import signal
import socket
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import typer

from squall.chaos.cli.operator import ConfigOption, RunsOption, runs_folder
from squall.chaos.run_folder import find_run, run_name
from squall.core.errors import ConfigError, Problem

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
) -> int:
    """Look at runs in a browser, and at the traces of a service.

    It shows what is in these folders, and changes nothing there. Ctrl-C stops it.

    \b
    Example:
      squall dashboard
      squall dashboard --run first-storm --port 8600
      squall dashboard --spans spans
    """
    if importlib.util.find_spec("streamlit") is None:
        raise ConfigError("dashboard needs streamlit: pip install 'squall[dashboard]'")
    folder, traces = runs_folder(config, runs).resolve(), spans.resolve() if spans is not None else None
    asked = (traces, folder if traces is None or runs is not None else None)
    for one in asked:
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

        server = make_server(folder, taken, [*all_pages(), *([SERVICE] if traces else [])], traces)

        def stop(number: int, frame: object) -> None:
            """Until the server answers signals itself, and when it raises them anew because it has stopped."""
            server.should_exit = True

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        print(f"squall dashboard: http://{HOST}:{taken.getsockname()[1]}/{view}", flush=True)  # noqa: T201  what was asked for
        also = "" if traces is None else f" and the spans in {traces}"
        print(f"shows the runs in {folder}{also}; Ctrl-C stops it", flush=True)  # noqa: T201
        server.run(sockets=[taken])
    return 0


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
