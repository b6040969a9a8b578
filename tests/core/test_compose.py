"""What a router under test is made of, and how another process is told of it."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from squall.core.clock import SystemClock
from squall.core.compose import as_sections, compose, keeper, located, publish_path
from squall.core.config import Bench, Config, load_config
from squall.core.plugin import Plugin
from squall.core.target import Detour, RunContext, straight
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


async def aside(name: str, host: str, port: int) -> tuple[str, int]:
    """A detour by a port that tells which was asked for."""
    return "127.0.0.1", port + 1


def context(folder: Path, detour: Detour = aside, **servers: tuple[str, int]) -> RunContext:
    """A run against servers of the operator's own, which it may write to."""
    config = Config(bench=Bench(allow_servers=("redis", "neo4j")))
    return RunContext(SystemClock(), Random(1), folder, config, detour=detour, servers=servers)


@pytest.mark.parametrize(
    ("url", "led"),
    [
        ("redis://shop:s3cr3t-value@cache:7000/3?x=1", "redis://shop:s3cr3t-value@127.0.0.1:7001/3?x=1"),
        ("redis://cache", "redis://127.0.0.1:6380"),
        ("env:SHOP_REDIS", "redis://127.0.0.1:8001"),
        ("rediss://cache:7000", "rediss://cache:7000"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("redis://cache:not-a-port", "redis://cache:not-a-port"),
    ],
)
async def test_a_server_of_the_operators_own_is_reached_by_the_detour(
    url: str, led: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the login, database and options of its url; but where a proxy could not stand in for it."""
    monkeypatch.setenv("SHOP_REDIS", "redis://cache:8000")
    (plugin,) = await located(configured(tmp_path / "shop", [{"redis": {"url": url}}]), context(tmp_path))
    assert isinstance(plugin.options, RedisOptions)
    assert plugin.options.url.read("") == led
    assert PASSWORD not in str(plugin.options.url)


async def test_where_there_is_no_detour_a_url_stays_as_it_is_written(tmp_path: Path) -> None:
    """So that what must not be written down is not."""
    made = configured(tmp_path / "shop", [{"redis": {"url": "redis://cache"}}])
    assert await located(made, context(tmp_path, straight)) == made


async def test_a_server_of_the_run_is_preferred(tmp_path: Path) -> None:
    made = configured(tmp_path / "shop", [{"redis": {"url": "redis://cache"}}])
    (plugin,) = await located(made, context(tmp_path, redis=("127.0.0.1", 7000)))
    assert isinstance(plugin.options, RedisOptions)
    assert str(plugin.options.url) == "redis://127.0.0.1:7001"


@pytest.mark.parametrize(
    ("plugins", "kept_by", "path"),
    [
        (["redis", "neo4j"], "redis", ("net:redis", "process:redis")),
        (["neo4j", "sqlite"], None, ()),
        (["neo4j"], None, ()),
    ],
)
def test_who_keeps_the_events_is_on_the_way_of_a_publish(
    plugins: list[str], kept_by: str | None, path: tuple[str, ...], tmp_path: Path
) -> None:
    """Whoever's server that is. A graph is not."""
    made = configured(tmp_path, plugins)
    assert (keeper(made), publish_path(made)) == (kept_by, path)
