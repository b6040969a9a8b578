"""Who can publish how much to one `squall serve`: Locust's users beside the bench's own driver, a burst of each.

The bench's own publishes through squall's client, over one WebSocket; Locust's users by HTTP, a request an event.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.benchmarks.rounds import Sample, Scale, alternate
from tests.benchmarks.table import Row, compare

from squall.chaos.catalogue import load_catalogue
from squall.chaos.history import open_history
from squall.chaos.run import run_scenario
from squall.chaos.scenario import load_scenario
from squall.core.config import Config

GROUP = "drivers of load"
EVENTS, USERS = 10_000, 50
OWN = "the bench's own"
CASES = {OWN: None, "Locust": 1, "Locust, 2 workers": 2}


async def publishing(workers: int | None, events: int) -> Sample:
    """`events` acknowledged a second, from the first that was sent to the last answer. Raises RuntimeError where one
    was not acknowledged."""
    load: dict[str, object] = {"stages": [{"burst": events}], "events": [{"type": "order.created"}]}
    if workers is not None:
        load["driver"] = {"locust": {"users": USERS, "workers": workers}}
    subscribers = {"all": {"pattern": "order.>", "concurrency": 8}}
    sections = {"version": 1, "name": "drivers", "target": "squall", "subscribers": subscribers, "load": load}
    with tempfile.TemporaryDirectory() as folder:
        path, config, catalogue = Path(folder) / "drivers.yaml", Config(folder=Path(folder)), load_catalogue()
        path.write_text(json.dumps(sections), encoding="utf-8")
        read = load_scenario(path, config=config, known=catalogue.known(config))
        result = await run_scenario(read, config, catalogue)
        with open_history(result.folder / "history") as db:
            found = db.execute(
                "SELECT count(*) FILTER (outcome = 'ok'), (max(ended) - min(invoked)) / 1e9 FROM publish"
            ).fetchone()
    if found is None or found[0] != events:
        raise RuntimeError(f"{found and found[0]} of {events} were acknowledged: {result.verdict.headline}")
    return {"events": events / found[1]}


def measure(scale: Scale) -> list[Row]:
    """A row for each way to run Locust."""
    events = scale.of(EVENTS)
    cases = {case: {"workers": workers, "events": events} for case, workers in CASES.items()}
    found = alternate(publishing, cases, scale, GROUP)
    return [
        compare(GROUP, f"{case}, {USERS} users", "events/s", "events", found[case], found[OWN], OWN)
        for case in CASES
        if case != OWN
    ]
