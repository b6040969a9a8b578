"""The section `serve:` of squall.yaml."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from tests.plugins.serve.served import TOKEN

from squall import ConfigError, EventRouter
from squall.core.config import load_config
from squall.plugins.serve import ServePlugin
from squall.plugins.serve.command import log, with_serve
from squall.plugins.serve.options import ServeOptions
from squall.plugins.serve.server import Server


def configured(folder: Path, serve: str) -> ServeOptions:
    """The options that a squall.yaml with this section gives."""
    path = folder / "squall.yaml"
    path.write_text(f"version: 1\nplugins:\n  - memory\n  - serve: {serve}\n", encoding="utf-8")
    _, options = with_serve(load_config(path), None, None)
    return options


def test_a_secret_is_read_from_where_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment, or from a file beside squall.yaml; it is never shown."""
    monkeypatch.setenv("OUR_TOKEN", TOKEN)
    (tmp_path / "token").write_text(f"{TOKEN}\n", encoding="utf-8")
    for where in ("env:OUR_TOKEN", "file:token"):
        options = configured(tmp_path, f'{{token: "{where}"}}')
        assert options.token is not None
        assert options.token.read("token") == TOKEN
        assert TOKEN not in repr(options)
        assert options.model_dump(mode="json")["token"] == where


@pytest.mark.parametrize(
    ("serve", "message"),
    [
        ('{token: "my-own-secret-token"}', "expected env:NAME or file:PATH, never the secret itself"),
        ("{host: 0.0.0.0}", "a token is required"),
        ("{port: 70000}", "expected at most 65535, got 70000"),
        ("{prot: 5}", "did you mean 'port'?"),
        ("{tls: {certificate: a.pem}}", "'key' is required"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, serve: str, message: str) -> None:
    """And a secret is not repeated."""
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, serve)
    assert message in str(caught.value)
    assert "squall.yaml:4:" in str(caught.value)
    assert "my-own-secret-token" not in str(caught.value)


def test_a_token_that_cannot_be_used_keeps_the_server_from_starting(tmp_path: Path) -> None:
    """Before its router is started: the configuration itself can be checked without it."""
    (tmp_path / "short").write_text("too-short\n", encoding="utf-8")
    for where, message in (
        ("env:NOT_SET_AT_ALL", "serve: token: the environment variable NOT_SET_AT_ALL is not set"),
        ("file:no-such-file", f"serve: token: the file that is to hold it cannot be read: {tmp_path}/no-such-file"),
        ("file:short", "serve: token: file:short: expected at least 16 characters there, got 9"),
    ):
        options = configured(tmp_path, f'{{token: "{where}"}}')
        with pytest.raises(ConfigError, match=re.escape(message)) as caught:
            Server(EventRouter([]), options)
        assert "too-short" not in str(caught.value)


def test_the_command_line_says_host_and_port(tmp_path: Path) -> None:
    """Over the file; and without a file there is serve too, around the default plugins."""
    path = tmp_path / "squall.yaml"
    path.write_text("version: 1\nplugins:\n  - serve: {port: 5, drain: 3s}\n  - memory\n", encoding="utf-8")
    plugins, options = with_serve(load_config(path), "::1", 7)
    assert (options.host, options.port, options.drain) == ("::1", 7, 3.0)
    assert isinstance(plugins[0], ServePlugin)
    assert plugins[0].options is options
    path.write_text("version: 1\n", encoding="utf-8")
    plugins, options = with_serve(load_config(path), None, None)
    assert [type(one).__name__ for one in plugins if isinstance(one, ServePlugin)] == ["ServePlugin"]
    assert len(plugins) > 1
    with pytest.raises(ConfigError, match="a token is required"):
        with_serve(load_config(path), "0.0.0.0", None)


def test_what_is_logged_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A driver's own words on a lost connection are left out: its plugin tells it. What only sounds alike is not."""
    handler = log()
    for name in ("neo4j", "neo4j.io", "squall.plugins.neo4j", "neo4jish"):
        handler.handle(logging.Logger(name).makeRecord(name, logging.ERROR, "", 0, f"{name} is gone", (), None))
    assert capsys.readouterr().err.splitlines() == ["squall.plugins.neo4j is gone", "neo4jish is gone"]
