"""Secrets in options: where they are written is shown, what they are is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import pytest

from squall import ConfigError
from squall.core.config import load_config
from squall.core.options import Options
from squall.core.scrub import known_secrets, scrubber
from squall.core.secret import Secret

VALUE = "s3cr3t-value"


class Url(Secret):
    """One that may be written directly."""

    directly: ClassVar[str] = r"db://.+"
    expected: ClassVar[str] = "db://, env:NAME or file:PATH"


class Section(Options):
    """A section with both."""

    password: Secret | None = None
    url: Url = Url("db://localhost")


def configured(folder: Path, section: str) -> Section:
    path = folder / "squall.yaml"
    path.write_text(f"version: 1\nplugins:\n  - db: {section}\n", encoding="utf-8")
    plugins = load_config(path).plugins
    assert plugins is not None
    return plugins[0].options(Section)


def test_a_secret_is_read_from_where_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anew each time: from the environment, or from a file, which stands beside squall.yaml unless it says where."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "password").write_text(f"{VALUE}\n", encoding="utf-8")
    monkeypatch.setenv("DB_PASS", VALUE)
    for where in ("env:DB_PASS", "file:password", f"file:{tmp_path}/config/password"):
        options = configured(tmp_path / "config", f'{{password: "{where}"}}')
        assert options.password is not None
        assert options.password.read("db: password") == VALUE
        assert VALUE not in repr(options) + str(options.password) + str(options.model_dump())
        assert options.model_dump(mode="json", exclude_defaults=True) == {"password": where}
    monkeypatch.setenv("DB_PASS", "another")
    assert Secret("env:DB_PASS").read("") == "another"


def test_a_relative_file_counts_from_the_working_folder_in_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text(VALUE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    options = Section.of("db", {"password": "file:password"})
    assert options.password is not None
    assert options.password.read("") == VALUE


def test_what_may_be_written_directly_hides_its_password(tmp_path: Path) -> None:
    options = configured(tmp_path, '{url: "db://shop:s3cr3t-value@host/orders"}')
    assert options.url.read("") == "db://shop:s3cr3t-value@host/orders"
    assert str(options.url) == options.model_dump(mode="json")["url"] == "db://shop:***@host/orders"
    assert VALUE not in repr(options)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (f'{{password: "{VALUE}"}}', "password: expected env:NAME or file:PATH, never the secret itself"),
        ("{password: 12345678}", "password: expected env:NAME or file:PATH, never the secret itself"),
        ('{password: "env:"}', "password: expected env:NAME or file:PATH"),
        (f'{{url: "host:{VALUE}"}}', "url: expected db://, env:NAME or file:PATH"),
        (f'{{url: "db://shop:{VALUE}@host", pasword: 1}}', "did you mean 'password'?"),
    ],
)
def test_what_is_wrong_is_told_without_the_secret(section: str, message: str, tmp_path: Path) -> None:
    """With its place in the file, and without the line."""
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, section)
    assert message in str(caught.value)
    assert "squall.yaml:3:" in str(caught.value)
    assert VALUE not in str(caught.value)
    assert "12345678" not in str(caught.value)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("env:NOT_SET_AT_ALL", "db: password: the environment variable NOT_SET_AT_ALL is not set"),
        (
            "file:nowhere",
            "db: password: the file that is to hold it cannot be read: nowhere: No such file",
        ),
        ("file:/dev/null", "db: password: the file that is to hold it is empty: /dev/null"),
    ],
)
def test_what_cannot_be_read_is_told_by_its_place(where: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        Secret(where).read("db: password")


def test_secrets_of_options_are_known_to_who_hides_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a URL its password; one that cannot be read is no error there."""
    monkeypatch.setenv("DB_PASS", VALUE)
    options = Section(password=Secret("env:DB_PASS"), url=Url("db://shop:pass-word@host"))
    hide = scrubber(known_secrets({}, [options, Section(password=Secret("env:NOT_SET_AT_ALL"))]))
    assert hide(f"{VALUE} and pass-word at db://localhost") == "*** and *** at db://localhost"
