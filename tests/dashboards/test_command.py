"""`squall dashboard`: where it listens, what it says, how it ends."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from tests.chaos.cli.command import child, squall
from tests.chaos.report import folders
from tests.dashboards.browsing import STOP_S, dashboard
from tests.docs.pages import ROOT

from squall.dashboards.command import listening
from squall.dashboards.markup import link, plain
from squall.dashboards.server import settings


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_listens_on_loopback_until_it_is_told_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    """Its page lets a browser ask nobody else; a name that is not its own gets nothing; it ends well."""
    folders.valid_folder(tmp_path)
    with dashboard(tmp_path) as (process, address):
        url = urlsplit(address)
        assert url.hostname == "127.0.0.1"
        assert url.port is not None
        asked = http.client.HTTPConnection("127.0.0.1", url.port, timeout=STOP_S)
        asked.request("GET", "/overview?run=by-hand")
        answer = asked.getresponse()
        assert answer.status == 200
        assert "default-src 'self'" in (answer.headers["content-security-policy"] or "")
        assert b"BACKEND_BASE_URL" in answer.read()
        asked.request("GET", "/_stcore/health", headers={"Host": "evil.example"})
        assert asked.getresponse().status in (400, 403)
        asked.close()
        process.send_signal(number)
        out, err = process.communicate(timeout=STOP_S)
        assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.slow
def test_it_can_be_stopped_as_soon_as_it_has_said_where_it_is(tmp_path: Path) -> None:
    """Before its server has begun, too."""
    with dashboard(tmp_path) as (process, _):
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=STOP_S)
        assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.slow
def test_with_a_service_it_says_whether_it_may_change_anything(tmp_path: Path) -> None:
    """With a password that is another one each time, and not the service's token; it need not be there yet."""
    folders.valid_folder(tmp_path)
    service = ("--service", "http://127.0.0.1:1")
    for options, expected in (
        ((), "squall serve at http://127.0.0.1:1, and changes nothing there\n"),
        (("--allow-changes",), "squall serve at http://127.0.0.1:1\n"),
    ):
        with dashboard(tmp_path, options=(*service, *options)) as (process, _):
            assert process.stdout is not None
            assert process.stdout.readline() == f"and the dead letters of {expected}"
            if options:
                assert re.search("tell the page this password: [0-9a-f]{16}\n$", process.stdout.readline())


def test_a_service_that_is_named_wrongly_is_told_before_anything_starts() -> None:
    """And so is what belongs to one, where none is named."""
    for arguments, expected in (
        (("--service", "localhost:1"), "--service: expected http://"),
        (("--service", "http://127.0.0.1:1", "--token", "s3cret"), "never the secret itself"),
        (("--allow-changes",), "add --service URL"),
    ):
        said = squall("dashboard", "--port", "0", *arguments)
        assert said.code == 2
        assert expected in said.err
        assert "s3cret" not in said.err


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["--runs", "--spans"])
def test_a_folder_that_is_not_there_is_told(tmp_path: Path, missing: str) -> None:
    """It is begun all the same: who writes into the folder afterwards sees it. The other one is not complained of."""
    gone = tmp_path / "nowhere"
    runs, options = (gone, ()) if missing == "--runs" else (tmp_path, (missing, str(gone)))
    with dashboard(runs, options=options) as (process, _):
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=STOP_S)
        assert process.returncode == 0
        assert err.startswith(f"warning: {gone}: there is no such folder yet")
        assert err.count("warning") == 1


@pytest.mark.slow
def test_who_looks_at_spans_alone_needs_no_runs(tmp_path: Path) -> None:
    """Nobody is told that there are none; the page of spans is the first, and its address is one of the dashboard's."""
    (tmp_path / "spans").mkdir()
    process = child(tmp_path, "dashboard", "--spans", "spans", "--port", "0")
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        told = process.stdout.readline()
        with urlopen(address, timeout=STOP_S) as answer:
            assert b"BACKEND_BASE_URL" in answer.read()
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=STOP_S)
    assert address.endswith("/service_traces")
    assert told == f"shows the runs in {tmp_path}/runs and the spans in {tmp_path}/spans; Ctrl-C stops it\n"
    assert (process.returncode, err) == (0, "")


def test_make_passes_on_where_the_runs_are_and_the_port() -> None:
    """As `make help` says."""
    asked = ["make", "--dry-run", "--assume-old=.venv/.installed", "dashboard", "RUNS=elsewhere", "PORT=8600"]
    told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "squall dashboard --runs elsewhere --port 8600" in told


def test_a_port_that_is_taken_is_told() -> None:
    """Instead of another one being taken silently."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = squall("dashboard", "--port", str(port))
        assert said.code == 2
        assert f"127.0.0.1:{port}" in said.err
        assert "--port 0" in said.err


def test_an_unknown_run_is_told_before_anything_starts(tmp_path: Path) -> None:
    """As `squall why` tells it."""
    said = squall("dashboard", "--runs", str(tmp_path), "--run", "gone", "--port", "0")
    assert said.code == 2
    assert "there is no run 'gone'" in said.err


def test_nothing_is_told_to_anybody() -> None:
    """No telemetry, no mail, no address but loopback, no watching of files."""
    found = settings()
    assert found["browser.gatherUsageStats"] is False
    assert found["server.address"] == "127.0.0.1"
    assert found["server.showEmailPrompt"] is False
    with listening(0) as taken:
        assert taken.getsockname()[0] == "127.0.0.1"


def test_texts_are_cut_and_made_visible() -> None:
    """What a terminal or a browser would obey is shown as a sign."""
    assert plain("a\u202eb\x1b[31m") == "a\ufffdb\u241b[31m"
    assert plain("x" * 1_000_000, 10) == f"{'x' * 10}… (1,000,000 characters)"
    assert link("traces", run="a/b", event=7, key="?&") == "traces?run=a/b&event=7&key=%3F%26"
    assert link("live", run=None) == "live"
