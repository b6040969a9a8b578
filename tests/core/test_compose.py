"""What a router under test is made of, and how another process is told of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from squall.core.compose import as_sections, compose
from squall.core.config import load_config
from squall.core.plugin import Plugin
from squall.plugins.redis import RedisOptions
from squall.plugins.sqlite import SqlitePlugin

PASSWORD = "s3cr3t-value"


def configured(folder: Path, plugins: object) -> list[Plugin]:
    """The plugins that a squall.yaml in this folder enables, in a run beside it."""
    folder.mkdir(exist_ok=True)
    path = folder / "squall.yaml"
    path.write_text(json.dumps({"version": 1, "plugins": plugins}), encoding="utf-8")
    sections = load_config(path).plugins
    return compose(sections, (), folder / "run")


@pytest.mark.parametrize("where", ["redis://shop:s3cr3t-value@localhost/3", "file:url", "env:SHOP_REDIS"])
def test_another_process_reads_the_same_secret_elsewhere(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another folder and with an environment of its own; what it is told on disk holds no password."""
    url = "redis://shop:s3cr3t-value@localhost/3"
    monkeypatch.setenv("SHOP_REDIS", url)
    (tmp_path / "url").write_text(url, encoding="utf-8")
    environment = {"OTHER": "1"}
    told: Any = as_sections(configured(tmp_path, [{"redis": {"url": where}}]), environment)
    assert PASSWORD not in json.dumps(told)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (redis,) = configured(tmp_path / "elsewhere", told)
    assert isinstance(redis.options, RedisOptions)
    assert redis.options.url.read("") == url


def test_a_url_without_a_password_is_told_as_it_is(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    told = as_sections(configured(tmp_path, [{"redis": {"url": "redis://localhost/3"}}]), environment)
    assert (told, environment) == ([{"redis": {"url": "redis://localhost/3"}}], {})


def test_a_store_too_is_told_of_the_run_that_it_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Besides being moved to where the run's data are."""
    folders: list[Path] = []

    def in_run(plugin: SqlitePlugin, folder: Path) -> SqlitePlugin:
        folders.append(folder)
        return plugin

    monkeypatch.setattr(SqlitePlugin, "in_run", in_run)
    (store,) = configured(tmp_path, [{"sqlite": {"path": "mine.db"}}])
    assert folders == [tmp_path / "run"]
    assert store.options.model_dump()["path"] == str(tmp_path / "run" / "store" / "events.db")
