"""run, validate, init, schema, plugins: what they say, where they say it, and their exit codes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.chaos.cli.command import CALM, LOSS, child, finished, squall, write

from squall.chaos.cli.operator import read_operator, read_scenarios, with_seeds
from squall.core.plugin import Context
from squall.core.subscription import Subscription
from squall.plugins import breaker
from squall.plugins.breaker import BreakerOptions

pytestmark = pytest.mark.slow  # whole runs

VERBS = ("init", "run", "validate", "plugins", "why", "runs", "report", "schema")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    """What it does in a sentence, and how it is called."""
    said = squall(verb, "--help")
    assert said.code == 0
    assert re.search(rf"Example:\n +squall {verb}", said.out)


def test_what_a_terminal_cannot_show_stops_nothing(here: Path) -> None:
    """One that knows only ASCII, and texts with characters that it would obey."""
    text = CALM.replace("Nothing is broken.", '"\\e]0;mine\\a\\e[2J \\u202Eread backwards"')
    write(here / "calm.yaml", text)
    said = finished(child(here, "run", "calm.yaml", env={"PYTHONIOENCODING": "ascii"}))
    assert said.code == 0, said.err
    assert "VALID" in said.out
    for one in (squall("run", "calm.yaml"), squall("run", "calm.yaml", "--dry-run")):
        assert one.code == 0
        assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", one.out + one.err)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("squall run calm.yaml 2>/dev/null | true; exit ${PIPESTATUS[0]}", 141),
        ("squall plugins | true; exit ${PIPESTATUS[0]}", 141),
        ("squall run calm.yaml >&-", 0),
        ("squall run calm.yaml 2>&-", 0),
        ("squall run calm.yaml >/dev/full", 4),
        ("squall run calm.yaml --json >/dev/full", 4),
    ],
)
def test_output_that_nobody_takes_is_no_verdict(here: Path, command: str, code: int) -> None:
    """Closed streams are none of a run's business; a pipe that is closed early, or a full disk, never looks invalid."""
    write(here / "calm.yaml", CALM)
    shell = command.replace("squall", f"{sys.executable} -m squall")
    result = subprocess.run(["bash", "-c", shell], cwd=here, capture_output=True, text=True, check=False)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert "BrokenPipe" not in result.stderr


def test_help_waits_for_nothing_heavy() -> None:
    """`squall --help` imports neither databases nor the kernel: that is what keeps it below 0.3 s."""
    heavy = ("duckdb", "pyarrow", "pydantic", "apsw", "asyncio", "rich")
    program = (
        "import sys\nfrom squall.chaos.cli import main\nsys.argv = ['squall', '--help']\n"
        f"try:\n    main()\nfinally:\n    print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.endswith("[]\n"), result.stdout
    assert all(f"  {verb} " in result.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", [["run"], ["sweep", "--over", "rate", "--from", "5", "--to", "9"]])
def test_runs_that_cannot_be_written_wait_for_nothing_heavy(here: Path, verb: list[str]) -> None:
    """It is told before the plugins and the checker are imported; a dry run writes nothing, and does not ask."""
    write(here / "taken", "a file")
    write(here / "calm.yaml", CALM)
    program = (
        "import sys\nfrom squall.chaos.cli import main\n"
        f"sys.argv = ['squall', *{verb}, 'calm.yaml', '--runs', 'taken']\n"
        "try:\n    main()\nfinally:\n    print([name for name in ('duckdb', 'pyarrow', 'apsw') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=here, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (4, "[]\n"), result.stderr
    assert "taken is no folder" in result.stderr
    assert squall("run", "calm.yaml", "--runs", "taken", "--dry-run").code == 0


def test_the_version_is_told() -> None:
    """Before any verb, and for reports of mistakes."""
    said = squall("--version")
    assert (said.code, said.out) == (0, f"squall {version('squall')}\n")
    assert squall("run", "--version").code == 2


def test_a_loss_is_told_with_its_cause(here: Path) -> None:
    """Headline, invariants, cause, first example, advice, where to look; exit 1."""
    said = squall("run", str(write(here / "loss.yaml", LOSS)))
    assert said.code == 1
    text = " ".join(said.out.split())
    for words in (
        r"INVALID \d+ of \d+ acknowledged events were lost \d+ s",
        r"no_loss ✗ \d+ acknowledged events .*billing",
        r"duplicates ✓",
        r"also held ✓ .*no_phantom · no_ghost",
        r"\d+ events, one cause: settled before the handler ran, then the handler crashed",
        r"first order\.created \d+ key",
        r"advice billing takes each event at most once",
        r"look squall why loss/\S+ \d+",
        r"log runs/loss/\S+/log\.txt \(\d+ errors\) look squall dashboard --run loss/2\S+$",
    ):
        assert re.search(words, text), (words, said.out)
    assert "died of" in next(here.glob("runs/loss/2*/log.txt")).read_text("utf-8")


def test_the_command_that_a_loss_names_works(here: Path) -> None:
    """What is printed can be pasted."""
    said = squall("run", str(write(here / "loss.yaml", LOSS)))
    (line,) = re.findall(r"look +squall (why \S+ \d+)", said.out)
    told = squall(*line.split())
    assert told.code == 0
    assert "crashed" in told.out


@pytest.mark.parametrize("columns", ["60", "80", "120"])
def test_no_line_is_wider_than_the_terminal(here: Path, columns: str) -> None:
    """At every width; paths and names that cannot be broken excepted."""
    said = squall("run", str(write(here / "loss.yaml", LOSS)), env={"COLUMNS": columns})
    wide = [line for line in said.out.splitlines() if len(line) > int(columns)]
    assert [line for line in wide if not re.match(r" *look |run |log |report ", line)] == []


def test_output_that_is_no_terminal_has_no_colour(here: Path) -> None:
    """Neither the verdict nor the progress."""
    process = child(here, "run", str(write(here / "calm.yaml", CALM)))
    said = finished(process)
    assert said.code == 0, said.err
    assert "\x1b" not in said.out + said.err
    assert "VALID" in said.out
    assert re.search(r"^  load +0/0 s · ", said.err, re.MULTILINE)
    assert "VALID" not in said.err


def test_json_is_alone_on_stdout(here: Path) -> None:
    """One document: the exit code and each run with its verdict; progress stays on stderr."""
    process = child(here, "run", str(write(here / "loss.yaml", LOSS)), "--json")
    said = finished(process)
    document = json.loads(said.out)
    (run,) = document["runs"]
    assert (said.code, document["exit_code"], run["exit_code"], run["interrupted"]) == (1, 1, 1, False)
    assert (run["scenario"], run["seed"], run["verdict"]["state"]) == ("loss", 3, "invalid")
    assert Path(run["folder"], "verdict.json").exists()
    assert "load" in said.err


UNSTEADY = CALM.replace("load:", "steady: {for: 200ms, expect: [{latency: {p99: 1ns}}]}\nload:")


def test_a_steady_state_that_does_not_hold_says_what_did_not(here: Path) -> None:
    """The threshold and what it came to, then what to do; exit 3."""
    said = squall("run", str(write(here / "calm.yaml", UNSTEADY)))
    text = " ".join(said.out.split())
    assert said.code == 3
    assert re.search(r"why unknown steady state: latency p99 \S+ \S+ \(limit 1ns\) advice +Lower the rate", text), text


def test_what_was_set_is_kept_with_the_run(here: Path) -> None:
    """So that it can be repeated: the scenario's text does not have it."""
    text = CALM.replace("subscribers:", "vars: {rate: 200, other: 5}\nsubscribers:").replace(
        "rate: 200}]", 'rate: "${rate}"}]'
    )
    assert squall("run", str(write(here / "calm.yaml", text)), "--set", "rate=100").code == 0
    (folder,) = here.glob("runs/calm/2*")
    assert json.loads((folder / "environment.json").read_text("utf-8"))["sets"] == {"rate": 100}


def test_a_latency_that_was_missed_names_slow_events(here: Path) -> None:
    """What most of their time passed with, and a command that tells the slowest one's path."""
    text = CALM.replace("[no_loss]", "[{latency: {p99: 1ns}}]")
    said = squall("run", str(write(here / "calm.yaml", text)))
    assert said.code == 1
    assert "latency p99    ✗" in said.out
    (line,) = re.findall(r"look +squall (why \S+ \d+)", said.out)[:1]
    assert "published" in squall(*line.split()).out


def test_what_a_run_is_made_of_is_shown_before_and_kept_after(here: Path) -> None:
    """The default plugins too, and the way of a delivery at each subscriber."""
    path = str(write(here / "calm.yaml", CALM))
    said = squall("run", path, "--dry-run")
    assert "breaker · metrics · retry" in said.out
    assert "deliver   breaker ⟩ handler ⟩ retry ⟩ observe: metrics" in said.out
    assert squall("run", path).code == 0
    (kept,) = here.glob("runs/calm/2*/composition.json")
    made = json.loads(kept.read_text("utf-8"))
    assert [one["name"] for one in made["plugins"]] == ["breaker", "metrics", "retry"]
    assert made["plugins"][0]["options"]["open_for"] == "5s"
    (report,) = here.glob("runs/calm/2*/report.html")
    assert "open_for 5s" in report.read_text("utf-8")


def test_hooks_are_asked_about_the_scenarios_own_subscribers_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the run; a plugin may know some subscriptions, and refuse others."""
    asked = []

    class Counted(breaker.Breaker):
        def __init__(self, options: BreakerOptions, ctx: Context, subscription: Subscription) -> None:
            asked.append(subscription.id)
            super().__init__(options, ctx, subscription)

    monkeypatch.setattr(breaker, "Breaker", Counted)
    write(here / "squall.yaml", "version: 1\nplugins: [breaker]\n")
    read_scenarios([str(write(here / "calm.yaml", CALM))], (), None, *read_operator(None))
    assert asked == ["all"]


def test_init_and_report_have_a_document_for_programs(here: Path) -> None:
    """What was written; where the report is."""
    said = squall("init", "shop", "--json")
    assert json.loads(said.out)["written"] == ["shop/squall.yaml", "shop/scenarios/first.yaml"]
    assert squall("init", "shop", "--json").code == 2
    assert squall("run", str(write(here / "calm.yaml", CALM))).code == 0
    assert Path(json.loads(squall("report", "calm", "--json").out)["report"]).name == "report.html"


def test_a_threshold_that_is_broken_is_told_once(here: Path) -> None:
    """By its own line: there is no event to tell of, and no advice."""
    text = CALM.replace("[no_loss]", "[{throughput: {min: 1000000}}]")
    said = squall("run", str(write(here / "calm.yaml", text)))
    assert said.code == 1
    assert "throughput     ✗" in said.out
    assert "squall why" not in said.out
    assert not re.search(r"^  \d+ events?: ", said.out, re.MULTILINE)


def test_repeat_takes_the_next_seeds_and_the_worst_code(here: Path) -> None:
    """A summary, and the seeds that were not valid."""
    said = squall("run", str(write(here / "loss.yaml", LOSS)), "--repeat", "2", "--seed", "7")
    assert said.code == 1
    seeds = sorted(json.loads(path.read_text("utf-8"))["seed"] for path in here.glob("runs/loss/2*/environment.json"))
    assert seeds == [7, 8]
    assert "2 runs   2 invalid" in said.out
    assert re.search(r"invalid +loss --seed 7\n +invalid +loss --seed 8", said.out)


def test_several_scenarios_are_one_summary(here: Path) -> None:
    """Valid and invalid ones; invalid is worse."""
    files = [str(write(here / "calm.yaml", CALM)), str(write(here / "loss.yaml", LOSS))]
    said = squall("run", *files)
    assert said.code == 1
    assert "2 runs   1 valid · 1 invalid" in said.out


def test_repeated_scenarios_are_made_one_by_one(here: Path) -> None:
    """However many there are; each is the file as it was read, with the next seed."""
    path = write(here / "calm.yaml", CALM)
    operator, catalogue = read_operator(None)
    (plan,) = read_scenarios([str(path)], (), 7, operator, catalogue)
    path.unlink()
    several = with_seeds(plan, (), 10_000, operator, catalogue)
    assert [next(several)[0].seed for _ in range(3)] == [7, 8, 9]


def test_the_drain_of_a_dry_run_is_the_runs_own(here: Path) -> None:
    """One and a half times the longest legal wait without progress: 30 s of timeout, 8 s of backoff, 5 s of breaker."""
    write(here / "calm.yaml", CALM)
    (plan,) = json.loads(squall("run", "calm.yaml", "--dry-run", "--json").out)
    assert plan["drain"] == {"limit_s": 129.0, "stall_s": 64.5}


def test_dry_run_starts_nothing(here: Path) -> None:
    """The timeline, for people and for programs; no run folder."""
    path = str(write(here / "loss.yaml", LOSS))
    said = squall("run", path, "--dry-run")
    assert said.code == 0
    assert "crash on handler:billing" in said.out
    (plan,) = json.loads(squall("run", path, "--dry-run", "--json").out)
    assert (plan["name"], plan["events"]) == ("loss", 200)
    assert not (here / "runs").exists()


def test_thresholds_are_judged_of_each_subscriber_that_is_named(here: Path) -> None:
    """A line each."""
    text = CALM.replace("[no_loss]", "[{latency: {p99: 5s, subscribers: [all]}}, {latency: {p99: 5s}}]")
    said = squall("run", str(write(here / "calm.yaml", text)))
    assert said.code == 0, said.out
    assert "latency p99 of all ✓" in said.out
    assert re.search(r"latency p99 +✓", said.out)


def test_validate_tells_all_mistakes_of_all_files(here: Path) -> None:
    """Every error of every file, with its place; right files are named too."""
    good = write(here / "good.yaml", CALM)
    bad = write(here / "bad.yaml", CALM.replace("pattern", "patern").replace("no_loss", "no_los"))
    said = squall("validate", str(good), str(bad))
    assert said.code == 2
    assert "good.yaml: valid" in said.out
    assert "did you mean 'pattern'?" in said.err
    assert "there is no expectation 'no_los'" in said.err
    assert said.err.rstrip().endswith("errors")


def test_validate_for_programs(here: Path) -> None:
    """Each problem with its line and column."""
    bad = write(here / "bad.yaml", CALM.replace("[no_loss]", "[no_los]"))
    said = squall("validate", str(bad), "--json")
    document = json.loads(said.out)
    (file,) = document["files"]
    (problem,) = file["problems"]
    assert (said.code, document["exit_code"], file["valid"]) == (2, 2, False)
    assert (problem["line"], problem["hint"]) == (6, "did you mean 'no_loss'?")


@pytest.mark.slow
def test_what_init_writes_validates_and_runs(here: Path) -> None:
    """The two commands that it prints, as they are printed."""
    said = squall("init", "shop")
    assert said.code == 0
    commands = re.findall(r"cd shop && squall (.*)", said.out)
    assert [command.split()[0] for command in commands] == ["validate", "run"]
    for command in commands:
        process = child(here / "shop", *command.split(), *(["--set", "rate=200"] if "run" in command else []))
        result = finished(process)
        assert result.code == 0, result.out + result.err


def test_init_overwrites_nothing(here: Path) -> None:
    """Exit 2, the file that is in the way, and nothing half-done."""
    write(here / "squall.yaml", "mine")
    said = squall("init")
    assert said.code == 2
    assert "squall.yaml: is there already; nothing was written" in said.err
    assert (here / "squall.yaml").read_text("utf-8") == "mine"
    assert not (here / "scenarios").exists()


def test_schema_goes_to_a_file_or_to_stdout(here: Path) -> None:
    """The same document."""
    printed = squall("schema").out
    assert squall("schema", "--out", "s.json").out == ""
    assert (here / "s.json").read_text("utf-8") == printed
    assert "no_loss" in printed


def test_plugins_shows_what_the_configuration_composes(here: Path) -> None:
    """Enabled ones in the file's order with their options, defaults too; the others; both chains."""
    write(
        here / "squall.yaml",
        "version: 1\nplugins:\n  - rate_limit: {rate: 100}\n  - retry: {attempts: 9, base: 50ms}\n  - metrics\n"
        "  - sqlite: {path: x.db}\n  - breaker\n",
    )
    said = squall("plugins", env={"COLUMNS": "120"})
    text = said.out
    assert said.code == 0, said.err
    places = [text.index(f"{name} ") for name in ("rate_limit", "retry", "metrics", "sqlite", "breaker")]
    assert places == sorted(places)
    assert "attempts 9 · base 50ms · factor 2 · cap 100s" in text
    assert text.index("available") < text.index("memory")
    assert "publish   kernel's checks → limit: rate_limit → route → sqlite (disk)\n" in text
    assert "deliver   breaker ⟩ handler ⟩ retry ⟩ observe: metrics\n" in text
    assert not (here / "x.db").exists()


@pytest.mark.parametrize(
    ("plugins", "publish", "deliver"),
    [
        ("[]", "kernel's checks → route → memory (memory)", "handler ⟩ dead letters at the first failure"),
        ("[memory, retry]", "kernel's checks → route → memory (memory)", "handler ⟩ retry"),
        (
            "[{faults: {inject: [{on: example, do: exception}]}}, metrics]",
            "kernel's checks → route → memory (memory)",
            "fault: faults ⟩ handler ⟩ dead letters at the first failure ⟩ observe: metrics",
        ),
    ],
)
def test_chains_are_computed(here: Path, plugins: str, publish: str, deliver: str) -> None:
    """What is not enabled does not stand in them."""
    write(here / "squall.yaml", f"version: 1\nplugins: {plugins}\n")
    document = json.loads(squall("plugins", "--json").out)
    assert (" → ".join(document["publish"]), " ⟩ ".join(document["deliver"])) == (publish, deliver)


def test_plugins_without_configuration_are_the_default_ones(here: Path) -> None:
    """And the store is the one that is fallen back on."""
    document = json.loads(squall("plugins", "--json").out)
    assert (document["by_default"], document["fallback"]) == (True, "memory")
    assert {one["name"] for one in document["enabled"]} == {"breaker", "metrics", "retry"}


def test_a_soak_repeats_the_load_and_judges_growth(here: Path) -> None:
    """For the time that is given; how to repeat it is in the report."""
    said = squall("run", str(write(here / "calm.yaml", CALM)), "--soak", "1s", "--json")
    assert said.code in (0, 3), said.err  # a second is too short to be sure of memory
    (run,) = json.loads(said.out)["runs"]
    grown = {one["title"]: one["state"] for one in run["verdict"]["findings"] if one["name"] == "growth"}
    assert set(grown) == {f"growth of {one}" for one in ("memory", "objects", "handles", "threads", "tasks", "store")}
    assert "invalid" not in grown.values()
    assert "--soak 1s" in Path(run["report"]).read_text("utf-8")
    assert json.loads(Path(run["folder"], "environment.json").read_text("utf-8"))["soak_s"] == 1.0


def test_a_soak_may_be_looked_at_before(here: Path) -> None:
    """Its length, its events, and what will be judged besides."""
    path = str(write(here / "calm.yaml", CALM))
    said = squall("run", path, "--soak", "30m", "--dry-run")
    assert said.code == 0, said.err
    assert re.search(r"load 1 +0s +30m +200/s, 360,000 events", said.out)
    assert "judged    no_loss, growth" in said.out
    many = CALM.replace("rate: 200}]", "rate: 200}, {burst: 5}]")
    said = squall("run", str(write(here / "many.yaml", many)), "--soak", "20s", "--dry-run")
    assert re.search(r"and 179 more stages", said.out)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--soak", "soon"], "--soak: expected a duration such as 100ms, 5s, 2m or 1h .*got 'soon'"),
        (["--soak", "2d"], "--soak: expected at most 1d, got 2d"),
        (["--soak", "100ms"], "--soak 100ms: the load alone takes 200ms"),
        (["--soak", "1m", "--profile"], "--soak and --profile"),
    ],
)
def test_a_soak_that_cannot_be_is_refused(here: Path, options: list[str], told: str) -> None:
    """Before anything is started."""
    said = squall("run", str(write(here / "calm.yaml", CALM)), *options)
    assert said.code == 2
    assert re.search(told, " ".join(said.err.split())), said.err
    assert not (here / "runs").exists()


def test_a_soak_keeps_to_the_operators_limit(here: Path) -> None:
    """A scenario of a second that is repeated for an hour takes an hour."""
    write(here / "squall.yaml", "version: 1\nbench: {limits: {duration: 10m}}\n")
    said = squall("run", str(write(here / "calm.yaml", CALM)), "--soak", "1h", "--dry-run")
    assert said.code == 2
    assert "the load takes 1h, above the operator's limit of 10m" in " ".join(said.err.split())
