"""Bad input gets one clear error and the right exit code; nothing is started, nothing is left half-done."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from pathlib import Path

import pytest
from tests.chaos.cli.command import CALM, Said, squall, write
from tests.chaos.cli.strangers import HOOKS, hook, install, plugin
from tests.fast import first

BOMB = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{chr(ord(c) - 1)}, *{chr(ord(c) - 1)}]\n" for c in "bcdefghij")
HOSTILE = {
    "deep": (b"a: " + b"[" * 100_000, "nested too deeply: at most 32 levels"),
    "aliases": (BOMB.encode(), "anchors are not used here"),
    "twice": (CALM.encode() + b"name: again\n", "'name' is given twice; first in line 2"),
    "large": (b"# " + b"x" * 10_000_000, "the file is too large: at most 256 KiB are read"),
    "binary": (bytes(range(256)) * 10, "not a text file?"),
    "nul": (b"version: 1\x00", "character U+0000 is not allowed"),
    "empty": (b"", "the file is empty"),
    "list": (b"- 1", "expected a mapping"),
    "tag": (b"a: !!python/object/apply:os.system [ls]", "tags are not used here"),
    "syntax": (b"a: [", "not valid YAML"),
    "huge number": (b"version: " + b"9" * 100_000, "whole numbers go up to"),
}


def refused(said: Said, code: int, *words: str) -> None:
    """One clear error: the code, the words, no traceback, nothing on stdout."""
    assert said.code == code, said.err
    assert said.out == ""
    assert "Traceback" not in said.err
    assert "not foreseen" not in said.err
    for one in words:
        assert one in said.err, said.err


def nothing_left(folder: Path) -> None:
    """No run folder, nor one for runs."""
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_scenario_is_refused(here: Path, kind: str) -> None:
    """Whatever it holds: exit 2 with the file's name, and nothing was started."""
    content, complaint = HOSTILE[kind]
    (here / "s.yaml").write_bytes(content)
    said = squall("run", "s.yaml")
    refused(said, 2, "s.yaml", complaint, "nothing was started")
    assert len(said.err) < 10_000
    nothing_left(here)
    assert squall("validate", "s.yaml").code == 2


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("command", [["run", "s.yaml"], ["plugins"]])
def test_a_hostile_configuration_is_refused(here: Path, kind: str, command: list[str]) -> None:
    """squall.yaml is read by every verb, and as strictly."""
    content, complaint = HOSTILE[kind]
    write(here / "s.yaml", CALM)
    (here / "squall.yaml").write_bytes(content.replace(CALM.encode(), b"version: 1\nname: x\n"))
    refused(squall(*command), 2, "squall.yaml", complaint)
    nothing_left(here)


@pytest.mark.parametrize(
    ("change", "complaints"),
    [
        ("plugins: [retri]", ["s.yaml:7:11", "there is no plugin 'retri'", "did you mean 'retry'?"]),
        ("plugins: [{retry: {attempts: 0}}]", ["s.yaml:7:30", "retry.attempts: expected at least 1, got 0"]),
        ("plugins: [{retry: {atempts: 3}}]", ["'atempts' is not an option of retry", "did you mean 'attempts'?"]),
        ("plugins: [{retry: {base: 5 parsecs}}, nope]", ["expected a duration such as", "there is no plugin 'nope'"]),
        ("plugins: [{sqlite: {durability: diamond}}]", ["expected 'process' or 'disk'"]),
        ("target: mars", ["there is no target 'mars'"]),
        ("drain: {limit: 50s, stall: 55s}", ["the limit (50s) ends the drain before a stall (55s) shows"]),
        ("drain: {limit: 5s, stall: 2s}", ["drain.stall: 2s does not exceed the longest legal wait", "more than 43s"]),
        ("seed: x", ["expected a whole number, got the text 'x'"]),
    ],
)
def test_a_mistake_in_a_scenario_is_told_before_anything_starts(here: Path, change: str, complaints: list[str]) -> None:
    """By run as by validate, with its place and what was expected."""
    write(here / "s.yaml", f"{CALM}{change}\n")
    refused(squall("run", "s.yaml"), 2, *complaints, "nothing was started")
    nothing_left(here)


def test_all_mistakes_are_told_at_once(here: Path) -> None:
    """Of a plugin's options, names and the scenario's own."""
    write(here / "s.yaml", CALM.replace("no_loss", "no_los") + "plugins: [{retry: {attempts: 0, cap: 0s}}, nope]\n")
    said = squall("run", "s.yaml")
    refused(said, 2, "no_los", "attempts", "cap", "nope", "4 errors, nothing was started")


@pytest.mark.parametrize(
    ("plugins", "complaints"),
    [
        ("[{retry: {attempts: 0}}]", ["squall.yaml:2:", "retry.attempts: expected at least 1, got 0"]),
        ("[retri]", ["there is no plugin 'retri'", "did you mean 'retry'?"]),
        ("[retry, retry]", ["the plugin 'retry' is listed twice"]),
    ],
)
@pytest.mark.parametrize("command", [["run", "s.yaml"], ["plugins"], ["validate", "s.yaml"]])
def test_a_mistake_in_the_configuration_is_told_at_its_place(
    here: Path, plugins: str, complaints: list[str], command: list[str]
) -> None:
    """By every verb that reads its plugins."""
    write(here / "s.yaml", CALM)
    write(here / "squall.yaml", f"version: 1\nplugins: {plugins}\n")
    refused(squall(*command), 2, *complaints)
    nothing_left(here)


@pytest.mark.parametrize("command", [["run", "s.yaml"], ["plugins"], ["validate", "s.yaml"]])
def test_two_stores_are_a_mistake(here: Path, command: list[str]) -> None:
    """Both are named, at the second one's place."""
    write(here / "s.yaml", CALM)
    write(here / "squall.yaml", "version: 1\nplugins: [memory, sqlite]\n")
    refused(squall(*command), 2, "squall.yaml:2:19", "two stores are configured (MemoryStore and SqliteStore)")
    nothing_left(here)


def test_two_stores_in_a_scenario_are_a_mistake(here: Path) -> None:
    """One replaces the operator's; two are one too many."""
    write(here / "squall.yaml", "version: 1\nplugins: [sqlite]\n")
    write(here / "s.yaml", CALM + "plugins: [memory]\n")
    assert squall("validate", "s.yaml").code == 0
    write(here / "s.yaml", CALM + "plugins: [memory, sqlite]\n")
    refused(squall("validate", "s.yaml"), 2, "s.yaml:7:19", "two stores are configured")


def test_a_configuration_that_is_a_link_to_nowhere_is_not_passed_over(here: Path) -> None:
    """What the operator wrote, such as limits, must not be lost because a link broke."""
    write(here / "s.yaml", CALM)
    (here / "squall.yaml").symlink_to("nowhere.yaml")
    for command in (["run", "s.yaml"], ["plugins"], ["runs"]):
        refused(squall(*command), 2, "squall.yaml: cannot be read: No such file or directory")
    nothing_left(here)


def test_what_is_wrong_is_told_to_programs_too(here: Path) -> None:
    """As a document on stdout, with each problem and its place; people read the same on stderr."""
    write(here / "s.yaml", CALM.replace("no_loss", "no_los"))
    said = squall("run", "s.yaml", "--json")
    document = json.loads(said.out)
    (problem,) = document["problems"]
    assert (said.code, document["exit_code"], problem["line"]) == (2, 2, 6)
    assert "did you mean 'no_loss'?" in said.err
    for command in (["why", "nope"], ["plugins", "--config", "nope"], ["validate", "s.yaml", "--config", "nope"]):
        assert json.loads(squall(*command, "--json").out)["exit_code"] == 2
    write(here / "s.yaml", CALM)
    document = json.loads(squall("run", "s.yaml", "--runs", "s.yaml", "--json").out)
    assert (document["exit_code"], document["problems"]) == (4, [])
    assert "the run folder cannot be written" in document["error"]


def test_an_error_cannot_command_the_terminal(here: Path) -> None:
    """Characters that would are shown as signs."""
    write(here / "s.yaml", CALM + '"\\e[31m\\a\\u202E": 1\n')
    said = squall("validate", "s.yaml")
    assert said.code == 2
    assert "'\u241b[31m\u2407\ufffd' is not an option of a scenario" in said.err


def test_of_very_many_mistakes_fifty_are_shown_and_all_are_counted(here: Path) -> None:
    """The rest is summed up once, at the end."""
    write(here / "s.yaml", CALM + "".join(f"key{n}: 1\n" for n in range(500)))
    said = squall("validate", "s.yaml")
    refused(said, 2)
    assert said.err.endswith("s.yaml: and 450 further problems\n500 errors\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "nope.yaml"], "nope.yaml: cannot be read: No such file or directory"),
        (["run", "first-strom"], "did you mean 'first-storm'?"),
        (["run", "."], "is not a file"),
        (["run", "s.yaml", "--set", "rate"], "rate"),
        (["run", "s.yaml", "--set", "nope=1"], "nope"),
        (["run", "s.yaml", "--config", "nope.yaml"], "nope.yaml: cannot be read"),
        (["run", "s.yaml", "--repeat", "0"], "Error: --repeat: expected at least 1, got '0'"),
        (["run", "s.yaml", "--repeat", "99999999"], "Error: --repeat: expected at most 10000, got '99999999'"),
        (["run", "s.yaml", "--seed", "x"], "Error: --seed: expected a whole number, got the text 'x'"),
        (["run", "s.yaml", "--seed", "-1"], "Error: --seed: expected at least 0, got '-1'"),
        (["run", "s.yaml", "--seed", "9223372036854775808"], "Error: --seed: expected at most 9223372036854775807"),
        (["dlq", "list", "--per-second", "x"], "Error: --per-second: expected a number, got the text 'x'"),
        (["run", "x" * 5000], "xxx: there is no such file, and no scenario of squall's by that name"),
        (["run", ""], "there is no such file"),
        (["run", "loop"], "loop: cannot be read: Too many levels of symbolic links"),
        (["run", "fifo"], "fifo: is not a file"),
        (["run"], "FILE"),
        (["rnu"], "there is no verb 'rnu' (did you mean 'run'?)"),
        (["serv"], "there is no verb 'serv' (did you mean 'serve'?)"),
        (["nosuch"], "there is no verb 'nosuch' (root --help lists them)"),
        (["plugins", "nwe"], "there is no verb 'nwe' (did you mean 'new'?)"),
        (["dashboard", "--port", "99999"], "Error: --port: expected at most 65535, got '99999'"),
        (["serve", "--port", "99999"], "port: expected at most 65535, got 99999"),
        (["serve", "--port", "x"], "--port: expected a whole number, got the text 'x'"),
    ],
)
def test_a_wrong_argument_is_a_mistake(here: Path, arguments: list[str], complaint: str) -> None:
    """Exit 2, what is wrong with which."""
    write(here / "s.yaml", CALM)
    (here / "loop").symlink_to("loop")
    os.mkfifo(here / "fifo")
    refused(squall(*arguments), 2, complaint)
    nothing_left(here)


@pytest.mark.parametrize("runs", ["taken", "taken/below", "/proc/squall-runs"])
def test_a_run_folder_that_cannot_be_written_is_infrastructure(here: Path, runs: str) -> None:
    """Exit 4, the folder, what to do; by --runs and by squall.yaml."""
    write(here / "taken", "a file")
    write(here / "s.yaml", CALM)
    refused(squall("run", "s.yaml", "--runs", runs), 4, runs, "cannot be written", "use --runs")
    over = ("--over", "load.stages.0.rate", "--from", "5", "--to", "9")
    refused(squall("sweep", "s.yaml", *over, "--runs", runs), 4, runs, "cannot be", "use --runs")
    write(here / "squall.yaml", f"version: 1\nbench: {{runs: {runs}}}\n")
    refused(squall("run", "s.yaml"), 4, runs, "cannot be written")
    assert (here / "taken").read_text("utf-8") == "a file"


def test_something_else_where_latest_should_be_is_infrastructure(here: Path) -> None:
    """It is not removed, and the run that could not begin leaves nothing."""
    write(here / "s.yaml", CALM)
    write(here / "runs" / "calm" / "latest" / "precious", "")
    refused(squall("run", "s.yaml"), 4, "runs/calm/latest: cannot be written")
    assert [path.name for path in (here / "runs" / "calm").iterdir()] == ["latest"]
    assert (here / "runs" / "calm" / "latest" / "precious").exists()


def foreign(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE somebody (elses TEXT)")
    db.commit()
    return db


@pytest.mark.slow  # whole runs
@pytest.mark.parametrize("kind", ["foreign", "locked", "corrupt", "folder"])
def test_no_run_touches_the_operators_database(here: Path, kind: str) -> None:
    """Whatever stands at the path of squall.yaml's store: runs keep theirs in the run folder, byte for byte."""
    write(here / "s.yaml", CALM)
    write(here / "squall.yaml", "version: 1\nplugins: [{sqlite: {path: shop.db}}, retry]\n")
    path = here / "shop.db"
    db = None
    if kind == "folder":
        path.mkdir()
    elif kind == "corrupt":
        path.write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000)
    else:
        db = foreign(path)
        if kind == "locked":
            db.execute("BEGIN EXCLUSIVE")
    before = None if path.is_dir() else hashlib.sha256(path.read_bytes()).digest()
    said = squall("run", "s.yaml")
    shown = squall("plugins")
    if db is not None:
        db.close()
    assert (said.code, shown.code) == (0, 0), said.err + shown.err
    assert before is None or hashlib.sha256(path.read_bytes()).digest() == before
    assert list(here.glob("runs/calm/2*/store/events.db"))
    assert [one.name for one in here.glob("shop.db*")] == ["shop.db"]


@pytest.mark.parametrize("name", ["redis", "neo4j"])
def test_no_run_writes_to_a_server_of_the_operators(here: Path, name: str) -> None:
    """Unless squall.yaml allows it: one error, before anything starts, at the plugin that would, with what to do."""
    write(here / "s.yaml", CALM)
    plugins = f"version: 1\nplugins: [retry, {{{name}: {{url: '{'bolt' if name == 'neo4j' else name}://shop:1'}}}}]\n"
    write(here / "squall.yaml", plugins)
    for command in (["validate"], ["run"], ["run", "--dry-run"]):
        said = squall(*command, "s.yaml")
        assert said.code == 2, said.out
        assert f"squall.yaml:2:19: plugins[1].{name}: plugin {name} would write to " in said.err
        assert f"servers: {{{name}: {{}}}}" in said.err
        assert f"bench: {{allow_servers: [{name}]}}" in said.err
    assert not (here / "runs").exists()
    write(here / "own.yaml", f"{CALM}servers: {{{name}: {{}}}}\n")
    assert squall("validate", "own.yaml").code == 0
    write(here / "squall.yaml", f"{plugins}bench: {{allow_servers: [{name}]}}\n")
    assert squall("validate", "s.yaml").code == 0


def test_a_server_that_a_scenario_does_not_use_is_nobodys_concern(here: Path) -> None:
    """Its own store takes the place of the operator's."""
    write(here / "s.yaml", f"{CALM}plugins: [sqlite]\n")
    write(here / "squall.yaml", "version: 1\nplugins: [redis]\n")
    assert squall("validate", "s.yaml").code == 0


def test_secrets_need_not_be_there_to_see_what_is_enabled(here: Path) -> None:
    """What is shown is where they are written; a URL that is written directly has no password in it."""
    plugins = '[{redis: {url: "redis://shop:hunter22@db:6379"}}, neo4j, {serve: {token: "env:NOT_SET_AT_ALL"}}]'
    write(here / "squall.yaml", f"version: 1\nplugins: {plugins}\n")
    shown = squall("plugins")
    assert shown.code == 0, shown.err
    for words in ("url redis://shop:***@db:6379", "url bolt://localhost:7687", "token env:NOT_SET_AT_ALL"):
        assert words in " ".join(shown.out.split())
    assert "hunter22" not in shown.out + shown.err


@pytest.mark.parametrize("name", HOOKS)
def test_a_plugin_that_raises_at_wiring_stops_the_run(here: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Exit 2, its name and the hook's, what it raised; nothing is left."""
    install(here, monkeypatch, plugin(hook(name, "raise ValueError('out of luck')")))
    write(here / "s.yaml", CALM)
    write(here / "squall.yaml", "version: 1\nplugins: [retry, stranger]\n")
    refused(squall("run", "s.yaml"), 2, "Stranger", f"raised in {name}: ValueError: out of luck", "nothing was started")
    nothing_left(here)


@pytest.mark.slow  # a whole run among them
@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("raise KeyError('while it was imported')", "its module raised KeyError: 'while it was imported'"),
        ("import nowhere_to_be_found", "cannot be imported: No module named 'nowhere_to_be_found'"),
        ("Stranger = 5", "expected a subclass of squall.Plugin"),
        ("", "its module raised AttributeError: module"),
        (plugin("def __init__(self, options=None): raise OSError('no luck')"), "raised while it was made: OSError: no"),
        (plugin("class Options(squall.Options):", "    region: str"), "'region' is required in stranger"),
        (plugin("@squall.hookimpl", "def squall_gate(self, ctx): pass"), ""),
        (plugin("def squall_gate(self, ctx): pass"), "Stranger.squall_gate would never be called"),
        (plugin("@squall.hookimpl", "def squall_gaet(self, ctx): pass"), "squall_gaet"),
        (plugin("@squall.hookimpl", "def squall_gate(self, contxt): pass"), "contxt"),
        (plugin(hook("squall_publish_middleware", "return 5")), "expected squall.guard"),
    ],
)
def test_a_plugin_that_is_wrong_is_told_when_it_is_enabled(
    here: Path, monkeypatch: pytest.MonkeyPatch, body: str, complaint: str
) -> None:
    """Exit 2 for who enables it; nobody else is bothered."""
    install(here, monkeypatch, body)
    write(here / "s.yaml", CALM)
    assert squall("validate", "s.yaml").code == 0
    write(here / "squall.yaml", "version: 1\nplugins: [stranger]\n")
    if complaint:
        refused(squall("run", "s.yaml"), 2, complaint, "nothing was started")
        nothing_left(here)
    else:
        assert squall("run", "s.yaml").code == 0


NONSENSE = ["5", "'text'", "[5]", "{'x': 5}", "object()", "int"]


@pytest.mark.parametrize("answer", first(1, NONSENSE))
@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_that_returns_nonsense_is_told_with_its_plugin(
    here: Path, monkeypatch: pytest.MonkeyPatch, name: str, answer: str
) -> None:
    """Exit 2, at the plugin's place in the file, or by the plugin's name where nobody has to enable it."""
    install(here, monkeypatch, plugin(hook(name, f"return {answer}")))
    write(here / "s.yaml", CALM)
    write(here / "squall.yaml", "version: 1\nplugins: [retry, stranger]\n")
    for_runs = ("squall_targets", "squall_faults", "squall_invariants")
    place = "plugin Stranger" if name in for_runs else "squall.yaml:2:18: plugins[1]"
    for command in (["run", "s.yaml"], ["validate", "s.yaml"], ["plugins"]):
        refused(squall(*command), 2, place, name.removeprefix("squall_").replace("_middleware", " middleware"))
    nothing_left(here)


def test_a_plugin_whose_module_exits_ends_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who enables it is told; nobody else is bothered."""
    install(here, monkeypatch, "raise SystemExit(0)")
    write(here / "s.yaml", CALM)
    assert squall("validate", "s.yaml").code == 0
    write(here / "squall.yaml", "version: 1\nplugins: [stranger]\n")
    refused(squall("validate", "s.yaml"), 2, "its module raised SystemExit")


def test_a_file_that_cannot_be_written_is_told_by_its_name(here: Path) -> None:
    """Infrastructure: exit 4."""
    refused(squall("schema", "--out", "nowhere/x"), 4, "nowhere/x: No such file or directory\n")


def test_debug_shows_where_an_error_was_raised(here: Path) -> None:
    """The traceback, then the same message and the same exit code."""
    said = squall("run", "nope.yaml", "--debug")
    assert said.code == 2
    assert said.err.startswith("Traceback (most recent call last):")
    assert said.err.rstrip().endswith("1 error, nothing was started")


def test_what_was_not_foreseen_is_one_message_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 4, its type, and how to see more."""
    monkeypatch.setattr("squall.chaos.run_folder.list_runs", lambda runs: 1 / 0)
    said = squall("runs")
    assert (said.code, said.out) == (4, "")
    assert said.err == "ZeroDivisionError: division by zero\nnot foreseen; --debug shows where it was raised\n"
