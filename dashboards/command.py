"""Starts the dashboard: Streamlit's server in this process, on loopback alone, until it is told to stop."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import typer

from squall.chaos.cli.operator import ConfigOption, RunsOption, runs_folder
from squall.chaos.run_folder import find_run, run_name
from squall.core.errors import ConfigError, Problem

HOST = "127.0.0.1"
LIGHT = {
    "primaryColor": "#2257ad",
    "backgroundColor": "#fdfcfa",
    "secondaryBackgroundColor": "#f3f0ea",
    "textColor": "#1c1b19",
    "linkColor": "#2257ad",
    "borderColor": "#d9d4cb",
    "chartCategoricalColors": ["#2563c4", "#b4540a", "#6d48b5", "#0d7f82", "#b0307a", "#5c6b12"],
}
DARK = {
    "primaryColor": "#79aaf5",
    "backgroundColor": "#161719",
    "secondaryBackgroundColor": "#222427",
    "textColor": "#e9e7e3",
    "linkColor": "#8db6f7",
    "borderColor": "#3a3d41",
    "chartCategoricalColors": ["#79aaf5", "#f0a25c", "#b79cf0", "#57c7c3", "#ee8cc2", "#b9c95a"],
}
SETTINGS: dict[str, object] = {
    "server.headless": True,
    "server.address": HOST,
    "server.allowedHosts": [HOST, "localhost"],
    "server.fileWatcherType": "none",
    "server.runOnSave": False,
    "server.showEmailPrompt": False,
    "browser.gatherUsageStats": False,
    "browser.serverAddress": HOST,
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": False,
    "runner.magicEnabled": False,
    "logger.level": "warning",
    "theme.baseRadius": "small",
    **{f"theme.light.{name}": value for name, value in LIGHT.items()},
    **{f"theme.dark.{name}": value for name, value in DARK.items()},
}
"""Streamlit's own settings: nobody but this machine reaches it, it tells nobody anything, and looks like the report."""


def dashboard(
    config: ConfigOption = None,
    runs: RunsOption = None,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="the run to look at first")] = None,
    port: Annotated[int, typer.Option(help="to listen on, at 127.0.0.1", min=1, max=65535)] = 8501,
) -> int:
    """Look at runs in a browser.

    It shows what is in run folders and changes nothing. Ctrl-C stops it.

    \b
    Example:
      squall dashboard
      squall dashboard --run first-storm --port 8600
    """
    if importlib.util.find_spec("streamlit") is None:
        raise ConfigError("dashboard needs streamlit: pip install 'squall[dashboard]'")
    folder = runs_folder(config, runs).resolve()
    chosen = "" if run is None else f"overview?{urlencode({'run': run_name(find_run(folder, run))}, safe='/')}"
    _free(port)
    print(f"squall dashboard: http://{HOST}:{port}/{chosen}  (runs in {folder}; Ctrl-C stops it)", flush=True)  # noqa: T201  what was asked for
    from streamlit import config as settings
    from streamlit.web import bootstrap

    options = {**SETTINGS, "server.port": port, "browser.serverPort": port}
    settings.get_config_options(force_reparse=True, options_from_flags=options)
    bootstrap.run(str(Path(__file__).with_name("script.py")), False, [str(folder)], options)
    return 0


def _free(port: int) -> None:
    """Raises ConfigError when something listens on the port: Streamlit would silently take another."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            hint = f"choose another: squall dashboard --port {port % 65535 + 1}"
            raise ConfigError([Problem("--port", f"{HOST}:{port}: {error.strerror}", hint=hint)]) from error
