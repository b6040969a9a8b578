"""`squall why`: the path of one event and its cause, or every cause of a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from squall.chaos.cli.guard import DebugOption, JsonOption, guarded
from squall.chaos.cli.operator import ConfigOption, RunArgument, RunsOption, runs_folder

if TYPE_CHECKING:
    from squall.chaos.check.blame import Story
    from squall.chaos.check.verdict import Verdict


def command(
    run: RunArgument,
    event: Annotated[
        str | None, typer.Argument(metavar="EVENT", help="an event's number, its UUID, or its trace's id")
    ] = None,
    config: ConfigOption = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Tell the causes of a verdict, or one event.

    Without EVENT every cause that the verdict names; with it the event's whole path in the order of time, what became
    of it and why. UUIDs and traces are known of runs with the plugin tracing, as its spans have them.

    \b
    Example:
      squall why latest
      squall why loss-on-purpose 514
      squall why latest 6f098ad8-fcd7-43f9-8b1c-dea496a4e578
    """
    guarded(lambda: _why(run, event, config, runs, as_json=as_json), as_json=as_json, debug=debug)


def _why(run: str, event: str | None, config: Path | None, runs: Path | None, *, as_json: bool) -> int:
    from squall.chaos.check.output import load_verdict
    from squall.chaos.cli.output import print_json, print_lines
    from squall.chaos.event_names import event_number
    from squall.chaos.present import reachable
    from squall.chaos.present_why import story_lines, verdict_causes
    from squall.chaos.run_folder import VERDICT, find_run

    folder = find_run(runs_folder(config, runs), run)
    verdict = load_verdict(folder / VERDICT) if (folder / VERDICT).exists() else None
    if event is not None:
        story = tell(folder, verdict, event_number(folder, event))
        if as_json:
            print_json(story)
        else:
            print_lines(lambda width: story_lines(story, width))
    elif as_json:
        print_json(verdict.causes if verdict else ())
    else:
        print_lines(lambda width: verdict_causes(verdict, reachable(folder), width))
    return 0


def tell(folder: Path, verdict: Verdict | None, event: int) -> Story:
    """The event's story. Raises ConfigError where the history does not know it, StoreFileError."""
    from squall.chaos.check.blame import why
    from squall.chaos.check.facts import FACTS, RunFacts, load_facts
    from squall.core.errors import ConfigError, Problem

    # A run that was killed has no facts, and its history may still tell.
    facts = load_facts(folder) if (folder / FACTS).exists() else RunFacts()
    violations = [one for finding in verdict.findings for one in finding.violations] if verdict else []
    story = why(folder / "history", facts, event, violations)
    records = (path for table in ("publish", "attempt") for path in (folder / "history").glob(f"{table}*.parquet"))
    if story is None and not any(records):
        message = f"{folder} holds no records: the run was killed before they were written, or it has just begun"
        raise ConfigError([Problem("EVENT", message)])
    if story is None:
        raise ConfigError([Problem("EVENT", f"there is no event {event} in {folder}: not published, not delivered")])
    return story
