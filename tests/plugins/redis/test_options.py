"""Where the url is written: in the file itself, in the environment, or in a file of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.plugins.redis.routers import publish, router
from tests.servers import Server

from squall import ConfigError, EventRouter
from squall.plugins.redis import RedisPlugin


async def test_a_url_is_read_from_the_environment_or_a_file(
    redis_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_REDIS_URL", redis_server.url)
    secret = tmp_path / "url"
    secret.write_text(f"{redis_server.url}\n", encoding="utf-8")
    for url in ("env:SHOP_REDIS_URL", f"file:{secret}"):
        async with router(url) as one:
            await publish(one, 1)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("env:NOWHERE_TO_BE_FOUND", "the environment variable NOWHERE_TO_BE_FOUND is not set"),
        ("file:/nowhere/to/be/found", "the file that is to hold it cannot be read"),
        ("redis://shop:pass/word@localhost:6379", "redis: url: it is no URL; in a password, write special characters"),
    ],
)
async def test_a_url_that_leads_nowhere_is_told_at_the_start(url: str, says: str) -> None:
    """And not before: what a router is composed of can be seen without it."""
    made = EventRouter([RedisPlugin(url=url)])
    with pytest.raises(ConfigError, match=says) as told:
        await made.start()
    assert "pass" not in str(told.value).replace("in a password", "")


def test_what_is_no_url_is_told_when_it_is_read() -> None:
    with pytest.raises(ConfigError, match=r"url: expected redis://, rediss:// or unix://, or env:NAME or file:PATH"):
        RedisPlugin(url="localhost:6379")


async def test_a_password_is_in_no_error(redis_server: Server) -> None:
    made = EventRouter([RedisPlugin(url=redis_server.url.replace("redis://", "redis://app:hunter22@"))])
    with pytest.raises(Exception, match="refuses the login") as told:
        await made.start()
    assert "hunter22" not in str(told.value) + repr(made.plugin(RedisPlugin).options)
    shown = made.plugin(RedisPlugin).options.model_dump(mode="json")["url"]
    assert shown == redis_server.url.replace("redis://", "redis://app:***@")
