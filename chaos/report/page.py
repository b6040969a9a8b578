"""Makes report.html from a run's folder."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from jinja2 import Environment as Templates
from jinja2 import FileSystemLoader, StrictUndefined
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as model

from squall.chaos.check.facts import FACTS, RunFacts, load_facts
from squall.chaos.check.output import load_verdict
from squall.chaos.check.verdict import Verdict
from squall.chaos.composition import Composed, load_composed
from squall.chaos.history.reader import MANIFEST, open_history
from squall.chaos.present_why import tells
from squall.chaos.remedies import advised
from squall.chaos.report import view
from squall.chaos.report.answers import answer_rows
from squall.chaos.report.measured import Measured, measure
from squall.chaos.report.words import many
from squall.chaos.run_folder import COMPOSED, ENVIRONMENT, REPORT, SCENARIO, VERDICT, run_name
from squall.chaos.whole_file import misfit, write_whole
from squall.core.errors import StoreFileError
from squall.core.units import format_seconds
from squall.core.yaml_source import load_document

TEMPLATE = "report.html.j2"
HISTORY = "history"
WORDS: Mapping[str, str] = {"valid": "Valid", "invalid": "Invalid", "unknown": "Unknown", "unfinished": "No verdict"}


@model(frozen=True)
class Environment:
    """What environment.json says of where the run was made."""

    seed: int
    started: str
    python: str
    system: str
    cores: int | None
    optimized: bool
    versions: dict[str, str]
    sets: dict[str, bool | int | float | str] = field(default_factory=dict)
    soak_s: float | None = None

    @property
    def repeat(self) -> str:
        """The command that runs the scenario again as it was run."""
        sets = [f"--set {name}={_scalar(value)}" for name, value in self.sets.items()]
        soak = [] if self.soak_s is None else [f"--soak {format_seconds(self.soak_s)}"]
        return " ".join(["squall run scenario.yaml", f"--seed {self.seed}", *sets, *soak])


_MEASURE = re.compile(r"[0-9]+(\.[0-9]+)?[A-Za-z]+")


def _scalar(value: bool | int | float | str) -> str:
    """As a shell passes it on, and `--set` reads it: text in quotes, unless it is a measure such as 5s."""
    plain = isinstance(value, str) and _MEASURE.fullmatch(value)
    return shlex.quote(str(value) if plain else json.dumps(value))


@dataclass(frozen=True)
class RunContents:
    """Everything in the folder that a report is made of. measured None: nothing was recorded yet."""

    folder: Path
    environment: Environment
    about: str
    scenario: str
    facts: RunFacts
    verdict: Verdict | None
    composed: Composed | None
    measured: Measured | None


_ENVIRONMENT = TypeAdapter(Environment)


def write_report(folder: Path) -> Path:
    """Write report.html into a run's folder and return its path.

    The page needs nothing but itself. A run without a verdict, one that was interrupted and one that recorded nothing
    have a report too. Raises StoreFileError when a file of the folder is missing, damaged, or cannot be written.
    """
    path = folder / REPORT
    text = _render(read_run(folder))
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path


def read_run(folder: Path) -> RunContents:
    """Read a run's folder, whole or while it is still written. Raises StoreFileError when a file of it is missing or
    damaged, ConfigError when its scenario is not YAML."""
    try:
        environment = _ENVIRONMENT.validate_json((folder / ENVIRONMENT).read_bytes())
        scenario = (folder / SCENARIO).read_text(encoding="utf-8")
    except OSError as error:
        raise StoreFileError(f"{error.filename}: cannot be read ({error.strerror or error})") from error
    except ValidationError as error:
        raise StoreFileError(f"{folder / ENVIRONMENT}: is not what squall wrote ({misfit(error)})") from error
    except UnicodeDecodeError as error:
        raise StoreFileError(f"{folder / SCENARIO}: is not what squall wrote ({error})") from error
    facts = load_facts(folder) if (folder / FACTS).exists() else RunFacts()
    verdict = load_verdict(folder / VERDICT) if (folder / VERDICT).exists() else None
    composed = load_composed(folder / COMPOSED) if (folder / COMPOSED).exists() else None
    measured = None
    if (folder / HISTORY / MANIFEST).exists():
        with TemporaryDirectory(prefix="squall-report-") as spill, open_history(folder / HISTORY, Path(spill)) as db:
            measured = measure(db, facts)
    about = load_document(folder / SCENARIO).at(("about",))
    return RunContents(
        folder, environment, about if isinstance(about, str) else "", scenario, facts, verdict, composed, measured
    )


def reasons_of(verdict: Verdict) -> list[tuple[str, str]]:
    """Each with what to do, once for each kind; last the one that is the headline, of which only that is shown."""
    reasons = sorted(verdict.reasons, key=lambda reason: reason.text == verdict.headline)
    return [one for one in advised(reasons) if one != (verdict.headline, "")]


def _render(run: RunContents) -> str:
    templates = Templates(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # whatever the template is called: names and errors in a history are not ours
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["count"] = many
    verdict, measured, facts = run.verdict, run.measured, run.facts
    state = verdict.state if verdict else "unfinished"
    charts = view.over_time(measured, facts) if measured and any(measured.publishes.asked) else None
    return templates.get_template(TEMPLATE).render(
        run=run_name(run.folder),
        name=facts.scenario or run.folder.parent.name,
        state=state,
        mark=view.MARKS.get(state, "·"),
        word=WORDS[state],
        headline=verdict.headline if verdict else "It was ended before it was judged, or still goes on.",
        reasons=reasons_of(verdict) if verdict else [],
        key_figures=list(view.key_figures(verdict, measured, facts)) if measured else [],
        causes=[cause for cause in verdict.causes if tells(cause)] if verdict else [],
        zero="the start of the load" if facts.load else "the first publish",
        judged=view.judged(verdict) if verdict else (),
        charts=charts,
        hover={"times": charts.times, "charts": [[line.texts for line in chart.lines] for chart in charts.charts]}
        if charts
        else {},
        faults=view.fault_rows(measured) if measured else (),
        subscribers=view.subscriber_rows(measured) if measured else (),
        generator=facts.generated.driver if facts.generated else "",
        answers=answer_rows(facts.generated) if facts.generated else (),
        notes=[note.text for note in verdict.notes] if verdict else [],
        gates=view.gate_rows(measured) if measured else (),
        composed=run.composed,
        ways=view.ways(run.composed) if run.composed else (),
        environment=run.environment,
        about=run.about,
        scenario=run.scenario,
    )
