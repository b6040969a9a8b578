"""Starts the dashboard in this process, until it is told to stop."""

from __future__ import annotations

import importlib.util
import signal
import socket
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
    port: Annotated[int, typer.Option(help="to listen on, at 127.0.0.1; 0: any free one", min=0, max=65535)] = 8501,
) -> int:
    """Look at runs in a browser.

    It shows what is in run folders, and changes nothing there. Ctrl-C stops it.

    \b
    Example:
      squall dashboard
      squall dashboard --run first-storm --port 8600
    """
    if importlib.util.find_spec("streamlit") is None:
        raise ConfigError("dashboard needs streamlit: pip install 'squall[dashboard]'")
    folder = runs_folder(config, runs).resolve()
    if not folder.is_dir():
        told = f"{folder}: there is no such folder yet. What is run into it will show; --runs names another"
        typer.echo(f"warning: {told}", err=True)
    view = "" if run is None else f"overview?{urlencode({'run': run_name(find_run(folder, run))}, safe='/')}"
    with listening(port) as taken:
        from squall.dashboards.app import all_pages
        from squall.dashboards.server import make_server

        server = make_server(folder, taken, all_pages())

        def stop(number: int, frame: object) -> None:
            """Until the server answers signals itself, and when it raises them anew because it has stopped."""
            server.should_exit = True

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        print(f"squall dashboard: http://{HOST}:{taken.getsockname()[1]}/{view}", flush=True)  # noqa: T201  what was asked for
        print(f"shows the runs in {folder}; Ctrl-C stops it", flush=True)  # noqa: T201
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
