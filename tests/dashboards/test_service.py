"""Dead letters of a running service, without a browser: what is listed, what is told, and what is given back when."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from streamlit.testing.v1 import AppTest
from tests.chaos.report import folders
from tests.dashboards.a_service import ENV, ask, bury, end, give_back, serving
from tests.dashboards.test_pages import said

from squall.chaos.report.words import many
from squall.core.errors import ConfigError
from squall.dashboards import service_letters, service_redrive
from squall.dashboards.payloads import HEX_BYTES, TEXT_BYTES, forms
from squall.dashboards.service import Service, chosen_service
from squall.plugins.serve.asking import Server
from squall.plugins.serve.letters import Plan, Redrive, Redriven

pytestmark = pytest.mark.slow  # each page is Streamlit's whole script, and the service a process

PASSWORD = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUS_TOKEN", ENV["BUS_TOKEN"])


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A service that has given up three events."""
    bury(tmp_path, ("order.created", {"total": 5}), ("user.born", b"\x00\xff"), ("order.paid", "text"))
    with serving(tmp_path) as (_, url):
        yield url


def script(runs: str, url: str | None, token: str | None, password: str | None) -> None:
    """What Streamlit runs: the page of dead letters."""
    from pathlib import Path

    from squall.dashboards.app import show_letters
    from squall.dashboards.pages import own_pages
    from squall.dashboards.service import Service

    service = None if url is None else Service(url, token, password)
    show_letters(Path(runs), own_pages()["dead_letters"], service)


def opened(
    url: str | None, *, token: str | None = "env:BUS_TOKEN", password: str | None = None, **query: str
) -> AppTest:
    """The page as somebody sees it who follows such a link; there is no run."""
    test = AppTest.from_function(script, args=("/nowhere", url, token, password), default_timeout=60)
    for name, value in {"source": "service", **query}.items():
        test.query_params[name] = value
    test.run()
    assert not test.exception
    return test


def click(test: AppTest, label: str) -> str:
    """Click the button that begins so, and what the page says then."""
    next(one for one in test.button if one.label.startswith(label)).click().run()
    assert not test.exception
    return said(test)


def links(test: AppTest) -> list[dict[str, str]]:
    """What the links to single letters ask for, in the order of the list."""
    bodies = " ".join(one.proto.body for one in test.get("html"))
    found = [dict(parse_qsl(unescape(query))) for query in re.findall(r'href="dead_letters\?([^"]*)"', bodies)]
    return [query for query in found if "seq" in query]


def test_letters_are_listed_and_filtered(url: str) -> None:
    """By subscription, reason and type; where none fits, that is said, and what can be done."""
    everything = said(opened(url))
    assert "3 dead letters of squall serve at" in everything
    assert "order.created 1 billing rejected 1 " in everything
    for query, seqs in (
        ({"pattern": "order.*"}, {"order.created 1", "order.paid 3"}),
        ({"subscription": "billing", "reason": "rejected"}, {"order.created 1", "user.born 2", "order.paid 3"}),
        ({"reason": "timeout"}, set()),
        ({"subscription": "nobody"}, set()),
    ):
        told = said(opened(url, **query))
        assert {one for one in ("order.created 1", "user.born 2", "order.paid 3") if one in told} == seqs, query
        assert seqs or "Take the filters away" in told


def test_the_dry_run_is_of_just_what_is_listed(tmp_path: Path) -> None:
    """By each filter, and by all of them; of one event by the subscription whose letter is open."""
    bury(tmp_path, ("order.created", 1), ("order.failed", 2), ("user.born", 3), by=("billing", "ledger"))
    with serving(tmp_path) as (_, url):
        for query, count in (
            ({}, 6),
            ({"subscription": "ledger"}, 3),
            ({"reason": "delivery_limit"}, 2),
            ({"pattern": "order.>"}, 4),
            ({"subscription": "ledger", "reason": "rejected", "pattern": "order.>"}, 1),
            ({"seq": "2"}, 2),
        ):
            test = opened(url, **query)
            assert len(links(test)) == (0 if "seq" in query else count)
            assert f"{many(count, 'dead letter')} would be given back. Nothing was." in click(test, "Dry run"), query
        for query in links(opened(url)):
            test = opened(url, **query)
            assert said(test).count("given up by") == 1
            assert "1 dead letter would be given back" in click(test, "Dry run")


def test_a_filter_goes_into_the_address(url: str) -> None:
    """And the list begins anew."""
    test = opened(url, after="2")
    assert "order.created" not in said(test)
    test.text_input[1].set_value("order.created").run()
    assert test.query_params.get("pattern") == "order.created"
    assert "after" not in test.query_params
    assert "1 dead letter of squall serve" in said(test)


def test_many_letters_are_shown_page_by_page(tmp_path: Path) -> None:
    """The oldest first, with a way on and a way back."""
    bury(tmp_path, *[("a.b", number) for number in range(service_letters.PER_PAGE + 1)])
    with serving(tmp_path) as (_, url):
        first = opened(url)
        assert "25 dead letters, the oldest, of" in said(first)
        bodies = " ".join(one.proto.body for one in first.get("html"))
        assert 'href="dead_letters?source=service&amp;after=25"' in bodies
        assert "1 dead letter, later ones, of" in said(opened(url, after="25"))
        filtered = " ".join(one.proto.body for one in opened(url, pattern="a.*").get("html"))
        assert 'href="dead_letters?source=service&amp;after=25&amp;pattern=a.%2A"' in filtered


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"pattern": "a..b"}, "pattern"),
        ({"reason": "bad"}, "expected one of rejected"),
        ({"after": "-1"}, "expected a whole number"),
        ({"seq": "x"}, "expected a whole number"),
    ],
)
def test_what_is_asked_wrongly_is_told(query: dict[str, str], expected: str) -> None:
    """Without asking anybody."""
    told = said(opened("http://127.0.0.1:1", **query))
    assert "This cannot be asked for" in told
    assert expected in told
    assert ("Mend the address" in told) is ("seq" in query)


def test_one_letter_is_shown_with_all_that_is_known(url: str) -> None:
    """The payload in each form that it has; a letter that is not there is told."""
    told = said(opened(url, seq="1"))
    for part in ("order.created 1 given up by billing", "It waits", "not today", "As JSON", '"total": 5', "As hex"):
        assert part in told
    binary = said(opened(url, seq="2"))
    assert "Payload, 2 bytes As hex 0000 00 ff" in binary
    assert "As text" not in binary
    assert "has no dead letter of event 9" in said(opened(url, seq="9"))


def test_without_a_service_it_says_how_to_name_one(tmp_path: Path) -> None:
    """And the page of a run says that there could be one."""
    assert "squall dashboard --service http://127.0.0.1:8787" in said(opened(None))
    folders.valid_folder(tmp_path)
    test = AppTest.from_function(script, args=(str(tmp_path), None, None, None), default_timeout=60).run()
    assert "squall dashboard --service URL" in said(test)


def test_a_service_that_does_not_answer_hangs_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """One that is not there, one that is frozen, one that wants another token: each is told, and can be asked again."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        told = said(opened(f"http://127.0.0.1:{nobody.getsockname()[1]}"))
        assert "does not answer" in told
        assert "is it running there?" in told
    with socket.socket() as frozen, monkeypatch.context() as patched:
        patched.setattr(service_letters, "READING_S", 0.2)
        frozen.bind(("127.0.0.1", 0))
        frozen.listen()
        assert "does not answer (timed out)" in said(opened(f"http://127.0.0.1:{frozen.getsockname()[1]}"))
    assert "the token is missing" in said(opened(url, token=None))
    monkeypatch.setenv("OTHER_TOKEN", "another-token-than-its-own")
    test = opened(url, token="env:OTHER_TOKEN")
    assert "the token is not the server's" in said(test)
    monkeypatch.setenv("OTHER_TOKEN", ENV["BUS_TOKEN"])
    assert "3 dead letters" in click(test, "Ask again")


def test_a_dashboard_that_only_looks_changes_nothing(url: str) -> None:
    """The dry run shows which would be given back; there is nothing to confirm it with."""
    test = opened(url, pattern="order.*")
    told = click(test, "Dry run")
    assert "2 dead letters would be given back. Nothing was." in told
    assert "This dashboard only looks" in told
    assert [one.label for one in test.button] == ["Dry run again"]
    assert not Service(url).lets_change("")
    assert all(one["given_back"] is None for one in ask(url)["dead_letters"])


def test_just_what_the_dry_run_showed_is_given_back_by_who_has_the_password(url: str) -> None:
    """A wrong one changes nothing; afterwards the tab need not tell it again."""
    test = opened(url, password=PASSWORD, seq="1")
    assert "1 dead letter would be given back" in click(test, "Dry run")
    test.text_input(key="password").set_value("a guess")
    assert "Nothing was given back: this is not the password" in click(test, "Give this one back")
    assert all(one["given_back"] is None for one in ask(url)["dead_letters"])
    test.text_input(key="password").set_value(f" {PASSWORD} ")
    told = click(test, "Give this one back")
    assert "1 dead letter given back" in told
    assert "Given back 20" in told
    assert [one["given_back"] is None for one in ask(url)["dead_letters"]] == [False, True, True]
    assert "nothing waits any more" in click(test, "Dry run")
    other = opened(url, password=PASSWORD)
    click(other, "Dry run")
    assert [one for one in other.text_input if one.key == "password"]
    del test.query_params["seq"]
    test.run()
    click(test, "Dry run")
    assert not [one for one in test.text_input if one.key == "password"]
    assert "2 dead letters given back" in click(test, "Give these 2 back")


def test_only_so_many_are_given_back_at_once_and_per_second(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest; that there are others is told, and they wait on. The service is told the rate of the form."""
    monkeypatch.setattr(service_letters, "PER_REDRIVE", 2)
    asked: list[Redrive] = []

    def redrive(server: Server, wanted: Redrive) -> Plan | Redriven:
        asked.append(wanted)
        return ask_it(server, wanted)

    ask_it = Server.redrive
    monkeypatch.setattr(Server, "redrive", redrive)
    test = opened(url, password=PASSWORD)
    told = click(test, "Dry run")
    assert "2 dead letters would be given back, the oldest; others wait past them. Nothing was." in told
    test.text_input(key="password").set_value(PASSWORD)
    test.number_input(key="per_second").set_value(0.5)
    assert "2 dead letters given back" in click(test, "Give these 2 back")
    assert [(one.token is None, one.per_second) for one in asked] == [(True, 100.0), (False, 0.5)]
    assert [one["given_back"] is None for one in ask(url)["dead_letters"]] == [False, False, True]


def test_what_could_not_be_given_back_is_told(tmp_path: Path) -> None:
    """Of a subscription that is no more nobody would be given it: it is named, with the reasons that there can be."""
    bury(tmp_path, ("order.created", 1), by=("billing", "ledger"))
    end(tmp_path, "ledger")
    with serving(tmp_path) as (_, url):
        test = opened(url, password=PASSWORD)
        click(test, "Dry run")
        test.text_input(key="password").set_value(PASSWORD)
        told = click(test, "Give these 2 back")
        assert "1 dead letter given back, 1 not" in told
        assert "These were left" in told
        assert "order.created 1 ledger" in told.partition("These were left")[2]
        letters = ask(url)["dead_letters"]
        assert {one["subscription"] for one in letters if one["given_back"] is None} == {"ledger"}


def test_what_has_changed_since_the_dry_run_is_not_given_back(url: str) -> None:
    """It is said, and a further dry run shows what there is now."""
    test = opened(url, password=PASSWORD)
    click(test, "Dry run")
    give_back(url, 2)
    test.text_input(key="password").set_value(PASSWORD)
    told = click(test, "Give these 3 back")
    assert "no longer those that the dry run showed" in told
    assert [one["given_back"] is None for one in ask(url)["dead_letters"]] == [True, False, True]
    assert "2 dead letters would be given back" in click(test, "Dry run")
    assert "2 dead letters given back" in click(test, "Give these 2 back")


def test_another_filter_forgets_the_dry_run(url: str) -> None:
    """What is confirmed is what is in sight."""
    test = opened(url, password=PASSWORD)
    click(test, "Dry run")
    test.text_input[1].set_value("order.*").run()
    assert "would be given back" not in said(test)
    assert [one.label for one in test.button] == ["Dry run: what would be given back?"]


def test_where_the_answer_is_lost_nobody_claims_to_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service may have given them back: nothing says that it has not."""
    bury(tmp_path, ("order.created", 1))
    with serving(tmp_path) as (process, url):
        test = opened(url, password=PASSWORD)
        click(test, "Dry run")
        test.text_input(key="password").set_value(PASSWORD)
        process.send_signal(signal.SIGSTOP)
        try:
            with monkeypatch.context() as patched:
                patched.setattr(service_redrive, "CHANGING_S", 0.2)
                patched.setattr(service_letters, "READING_S", 0.2)
                told = click(test, "Give this one back")
        finally:
            process.send_signal(signal.SIGCONT)
        assert "Nobody knows whether they were given back" in told
        assert "The service tells nothing just now" in told
        assert "1 dead letter of squall serve" in click(test, "Ask again")


@pytest.mark.parametrize(
    ("url", "token", "expected"),
    [
        ("localhost:8787", None, "--service: expected http:// or https://"),
        ("http://127.0.0.1:notaport", None, "--service: expected http:// or https://"),
        ("http://me:secret@127.0.0.1:1", None, "an address alone"),
        ("http://127.0.0.1:1?token=secret", None, "an address alone"),
        ("http://127.0.0.1:1", "c7d2b0a94e6f4d18", "never the secret itself"),
        ("http://127.0.0.1:1", "env:NOT_SET", "NOT_SET is not set"),
        (None, "env:BUS_TOKEN", "add --service URL"),
    ],
)
def test_a_service_that_is_named_wrongly_is_told_at_once(url: str | None, token: str | None, expected: str) -> None:
    """And no secret is repeated."""
    with pytest.raises(ConfigError) as raised:
        chosen_service(url, token, allow_changes=False)
    assert expected in str(raised.value)
    assert "secret@" not in str(raised.value)
    assert "c7d2b0a94e6f4d18" not in str(raised.value)


def test_each_dashboard_has_a_password_of_its_own() -> None:
    """And none where nothing may be changed."""
    made = [chosen_service("http://127.0.0.1:1", None, allow_changes=True) for _ in range(2)]
    assert len({one.password for one in made if one is not None}) == 2
    assert chosen_service("http://127.0.0.1:1", None, allow_changes=False) == Service("http://127.0.0.1:1")
    assert chosen_service(None, None, allow_changes=False) is None
    with pytest.raises(ConfigError, match="--allow-changes"):
        chosen_service(None, None, allow_changes=True)


def test_payloads_have_the_forms_that_they_can_have() -> None:
    """Cut where nobody would read on; what only looks like JSON is text."""
    assert [(one.name, one.text) for one in forms(b'{"a":1}')][:2] == [("JSON", '{\n  "a": 1\n}'), ("text", '{"a":1}')]
    assert [one.name for one in forms(b"{oops")] == ["text", "hex"]
    assert [one.name for one in forms(b"[" * 100_000)] == ["text", "hex"]
    assert forms(b"\xffok\n")[0].text == "0000  ff 6f 6b 0a              ·ok·"
    text, in_hex = forms("ü".encode() * 1_000_000)
    assert (text.shown_bytes, in_hex.shown_bytes) == (TEXT_BYTES, HEX_BYTES)
    assert set(text.text) == {"ü"}
    assert forms(b"")[-1].text == ""
