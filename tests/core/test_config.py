"""squall.yaml is read whole, and everything wrong with it is told with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

import pytest
from pydantic import Field

from squall.core.config import Config, import_handler, load_config, make_config
from squall.core.errors import ConfigError
from squall.core.options import Options
from squall.core.units import Seconds
from squall.core.yaml_source import parse_document
from squall.plugins.sqlite import SqliteOptions

EXAMPLE = """\
version: 1
plugins:                       # listed = enabled; the order counts within a stage
  - sqlite: {path: data/squall.db, durability: disk, dedupe_window: 2m}
  - retry: {attempts: 5, base: 1s, factor: 2, cap: 100s}
  - breaker: {failure_rate: 0.5, min_calls: 20, open_for: 5s}
  - tracing: {sample: 0.01}
backlog: {max_events: 100000, overflow: block, timeout: 5s}
handlers: {shop: "shop.billing:on_order"}   # code that scenarios may name
targets:                       # what scenarios may be run against, by name
  orders:
    kind: redis-streams
    claims: {delivery: at-least-once, order: key, durability: disk}
bench:
  runs: runs
  allow_faults: [network, process, handler, storage]
  limits: {rate: 20000, duration: 10m}
"""


class Retry(Options):
    noun: ClassVar[str] = "retry"
    attempts: Annotated[int, Field(ge=1)] = 5
    base: Seconds = 1.0
    factor: float = 2.0
    cap: Seconds = 100.0


class Redis(Options):
    url: str
    stream: str


def config(text: str) -> Config:
    return make_config(parse_document(text, "squall.yaml"), Path())


def complaints(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config(text)
    return [str(problem).splitlines()[0] for problem in caught.value.problems]


def test_the_documented_file_is_read(tmp_path: Path) -> None:
    """The example of the architecture page, value by value."""
    file = tmp_path / "squall.yaml"
    file.write_text(EXAMPLE)
    read = load_config(file)
    assert read.plugins is not None
    assert [section.name for section in read.plugins] == ["sqlite", "retry", "breaker", "tracing"]
    assert read.plugins[1].options(Retry) == Retry(attempts=5, base=1.0, factor=2.0, cap=100.0)
    assert (read.backlog.max_events, read.backlog.overflow, read.backlog.timeout) == (100_000, "block", 5.0)
    assert read.handlers == {"shop": "shop.billing:on_order"}
    assert read.targets["orders"].kind == "redis-streams"
    assert read.targets["orders"].claims.durability == "disk"
    assert read.bench.allow_faults == ("network", "process", "handler", "storage")
    assert (read.bench.limits.rate, read.bench.limits.duration) == (20_000, 600.0)
    assert read.folder == tmp_path


def test_what_a_file_leaves_out_has_defaults() -> None:
    """No plugin list means the default plugins, an empty one none."""
    assert config("version: 1").plugins is None
    assert config("version: 1\nplugins: []").plugins == ()
    assert config("version: 1").bench == Config().bench


def test_a_plugin_may_be_listed_by_name_alone() -> None:
    """`- retry` and `- retry:` are retry with its defaults."""
    for entry in ("- retry", "- retry:", "- retry: {}"):
        plugins = config(f"version: 1\nplugins:\n  {entry}").plugins
        assert plugins is not None
        assert plugins[0].options(Retry) == Retry()


def test_a_plugins_own_options_are_told_with_their_place() -> None:
    """Unknown and out-of-range options, placed in squall.yaml."""
    plugins = config("version: 1\nplugins:\n  - retry: {attempts: 0, caap: 5s}\n").plugins
    assert plugins is not None
    with pytest.raises(ConfigError) as caught:
        plugins[0].options(Retry)
    assert [str(problem).splitlines()[0] for problem in caught.value.problems] == [
        "squall.yaml:3:23: plugins[0].retry.attempts: expected at least 1, got 0",
        "squall.yaml:3:26: plugins[0].retry: 'caap' is not an option of retry",
    ]
    assert caught.value.problems[1].hint == "did you mean 'cap'?"


def test_an_option_that_a_bare_name_leaves_out_is_told_at_the_name() -> None:
    """A plugin with a required option, listed by name alone."""
    plugins = config("version: 1\nplugins:\n  - redis\n").plugins
    assert plugins is not None
    with pytest.raises(ConfigError) as caught:
        plugins[0].options(Redis)
    assert [(p.line, p.column) for p in caught.value.problems] == [(3, 5), (3, 5)]
    assert "plugins[0]: 'url' is required in redis" in str(caught.value)
    assert plugins[0].problem("is not installed").line == 3


def test_every_mistake_in_the_file_is_told_at_once() -> None:
    """Structure, plugin list and handlers together, in the order of the file."""
    text = (
        "version: 2\n"
        "plugins:\n"
        "  - 5\n"
        "  - {a: {}, b: {}}\n"
        "  - retry: 3\n"
        "  - retry\n"
        "  - retry: {}\n"
        "backlog: {max_events: 0, timeout: soon, overflw: block}\n"
        "handlers: {shop: shop.billing.on_order}\n"
        "targets: {orders: {claims: {delivery: exactly-once}}}\n"
        "bench: {allow_faults: [disk], limits: {rate: -1}}\n"
        "plugin: []\n"
    )
    told = complaints(text)
    assert [line.split(": ")[0] for line in told] == [
        "squall.yaml:1:10",
        "squall.yaml:3:5",
        "squall.yaml:4:5",
        "squall.yaml:5:5",
        "squall.yaml:7:5",
        "squall.yaml:8:23",
        "squall.yaml:8:35",
        "squall.yaml:8:41",
        "squall.yaml:9:18",
        "squall.yaml:10:11",
        "squall.yaml:10:39",
        "squall.yaml:11:24",
        "squall.yaml:11:46",
        "squall.yaml:12:1",
    ]
    assert told[4].endswith("the plugin 'retry' is listed twice")
    assert told[9].endswith("targets.orders: 'kind' is required in a target")


def test_a_plugins_relative_path_counts_from_the_file(tmp_path: Path) -> None:
    """Given or by default; an absolute one is as it is, and Python's counts from the working directory."""
    for text, expected in (
        ("sqlite: {path: data/shop.db}", tmp_path / "data" / "shop.db"),
        ("sqlite", tmp_path / "data" / "squall.db"),
        ("sqlite: {path: /var/shop.db}", Path("/var/shop.db")),
    ):
        file = tmp_path / "squall.yaml"
        file.write_text(f"version: 1\nplugins:\n  - {text}\n")
        (section,) = load_config(file).plugins or ()
        assert Path(section.options(SqliteOptions).path) == expected
    assert SqliteOptions(path="data/shop.db").path == "data/shop.db"


def test_a_handler_is_imported_by_the_name_the_file_gives_it() -> None:
    """And an unknown name is answered with the nearest."""
    read = config('version: 1\nhandlers: {shop: "json:loads", gone: "json:lods"}\n')
    assert read.handler("shop")("[1]") == [1]
    with pytest.raises(ConfigError, match=r"there is no handler 'shopp'.*did you mean 'shop'"):
        read.handler("shopp")
    with pytest.raises(ConfigError, match=r"squall.yaml:2:38: handlers.gone: json has no lods, did you mean 'loads'"):
        read.handler("gone")


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("json", "expected 'package.module:function', got 'json'"),
        ("json:", "expected 'package.module:function'"),
        (":loads", "expected 'package.module:function'"),
        ("js on:loads", "expected 'package.module:function'"),
        ("no_such_package.x:y", "cannot import no_such_package.x: there is no such module"),
        ("json.nothing:y", "cannot import json.nothing: there is no such module"),
        ("json:__name__", "json:__name__ is str, not a function"),
        ("json:decoder.nothing", "json has no decoder.nothing"),
    ],
)
def test_a_handler_that_cannot_be_imported_says_why(reference: str, words: str) -> None:
    """Form, module, attribute, and what it is instead."""
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        import_handler(reference)


def test_a_module_that_raises_is_told_with_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken import inside it is not mistaken for the module being absent."""
    (tmp_path / "squall_test_broken.py").write_text("import no_such_thing_at_all\n")
    (tmp_path / "squall_test_raises.py").write_text("raise RuntimeError('not today')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="No module named 'no_such_thing_at_all'"):
        import_handler("squall_test_broken:x")
    with pytest.raises(ValueError, match="RuntimeError: not today"):
        import_handler("squall_test_raises:x")
