"""Streamlit's server with squall's settings: on loopback alone, silent, and its pages reach for nothing else."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec
import streamlit
import uvicorn
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Match, Route
from starlette.types import Scope
from streamlit.config import get_config_options
from streamlit.starlette import App

from squall.dashboards.markup import plain, render
from squall.dashboards.service import Service
from squall.dashboards.tones import DARK, LIGHT, Tones

HOST = "127.0.0.1"
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' blob: 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'self'"
)
"""The browser asks nobody but this server for anything, whatever a page says."""
BASE = '<script>window.__streamlit = {BACKEND_BASE_URL: location.origin + "/"}</script>'
"""Otherwise Streamlit's page first looks for its server below the path of the view that is opened."""


def make_server(
    runs: Path,
    listening: socket.socket,
    pages: Iterable[str],
    service: Service | None = None,
    spans: Path | None = None,
) -> uvicorn.Server:
    """A server of the pages on the socket; not started. Streamlit's settings are set for the whole process.

    `service`: the one whose dead letters are asked for. `spans`: the folder of what a service traced.
    """
    script = Path(__file__).with_name("script.py")
    folders = [] if spans is None else [str(spans)]
    # How Streamlit passes arguments on to a script: nothing but this process sees them.
    sys.argv = [str(script), str(runs), msgspec.json.encode(service).decode(), *folders]
    port = listening.getsockname()[1]
    own = {**settings(), "server.port": port, "browser.serverPort": port}
    get_config_options(force_reparse=True, options_from_flags=own)
    html = (Path(streamlit.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    body = html.replace("<head>", f"<head>{BASE}", 1)

    def page(request: Request) -> HTMLResponse:
        return HTMLResponse(body, headers={"content-security-policy": POLICY, "cache-control": "no-cache"})

    routes = [Route(path, page) for path in ("/", *(f"/{name}" for name in pages))]
    routes.append(UnknownPage("/{name}", unknown))
    own_names = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    app = App(script, routes=routes, middleware=[own_names])
    return uvicorn.Server(
        uvicorn.Config(app, log_level="warning", lifespan="on", ws_max_size=64 << 20, timeout_graceful_shutdown=2)
    )


class UnknownPage(Route):
    """What looks like the name of a page, and is none: Streamlit would show the first page without a word."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        named = str(found.get("path_params", {}).get("name", "")).isidentifier()
        return (match, found) if named else (Match.NONE, {})


def unknown(request: Request) -> HTMLResponse:
    """Says so, and leads back."""
    name = plain(request.path_params["name"], 80)
    return HTMLResponse(render("unknown_page.html.j2", name=name), 404, headers={"content-security-policy": POLICY})


def settings() -> dict[str, object]:
    """Streamlit's own settings, over those of anybody's configuration file."""
    return {
        "server.headless": True,
        "server.address": HOST,
        "server.fileWatcherType": "none",
        "server.showEmailPrompt": False,
        "browser.gatherUsageStats": False,
        "browser.serverAddress": HOST,
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "client.showErrorLinks": False,
        "runner.magicEnabled": False,
        "logger.level": "warning",
        "theme.baseRadius": "small",
        **_theme("light", LIGHT),
        **_theme("dark", DARK),
    }


def _theme(name: str, tones: Tones) -> dict[str, object]:
    found = {
        "primaryColor": tones.link,
        "backgroundColor": tones.paper,
        "secondaryBackgroundColor": tones.raised,
        "textColor": tones.ink,
        "linkColor": tones.link,
        "borderColor": tones.rule,
        "chartCategoricalColors": list(tones.series),
    }
    return {f"theme.{name}.{key}": value for key, value in found.items()}
