"""A `squall serve` of its own process that has dead letters, for pages that show them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.chaos.cli.command import child
from tests.dashboards.browsing import STOP_S, stop
from tests.plugins.serve.served import TOKEN, until

from squall import Event, EventRouter, Reject

CONFIG = """\
version: 1
plugins:
  - sqlite: {path: bus.db}
  - retry: {attempts: 1}
  - serve: {port: 0, token: 'env:BUS_TOKEN'}
"""
ENV = {"BUS_TOKEN": TOKEN}


def bury(
    folder: Path,
    *events: tuple[str, object],
    error: str = "not today",
    key: str | None = None,
    metadata: Mapping[str, str] | None = None,
    by: Sequence[str] = ("billing",),
) -> None:
    """Events of these types and data, the first one of seq 1, each given up by these subscriptions, in the store of
    that folder: rejected, or where the type ends so `.failed`."""
    (folder / "squall.yaml").write_text(CONFIG, encoding="utf-8")

    async def refuse(event: Event) -> None:
        raise ValueError(error) if event.type.endswith(".failed") else Reject(error)

    async def buried() -> None:
        async with EventRouter.from_config(folder / "squall.yaml") as router:
            for name in by:
                await router.subscriber(name).subscribe(">", refuse, name=name)
            for event_type, data in events:
                await router.publisher("shop").publish(event_type, data, key=key, metadata=metadata)
            await until(lambda: router.get_metrics().dead_lettered == len(events) * len(by))

    _in_a_thread(buried())


def end(folder: Path, name: str) -> None:
    """End that subscription in the store of that folder: nobody is given its dead letters any more."""

    async def ignore(event: Event) -> None:
        """Nothing is owed."""

    async def ended() -> None:
        async with EventRouter.from_config(folder / "squall.yaml") as router:
            subscriber = router.subscriber(name)
            await subscriber.unsubscribe(await subscriber.subscribe(">", ignore, name=name))

    _in_a_thread(ended())


def delivered(folder: Path, count: int) -> list[int]:
    """The seqs of so many events that billing is given by the store of that folder, once nobody else has it."""
    seen: list[int] = []

    async def handle(event: Event) -> None:
        seen.append(event.seq)

    async def taken_up() -> None:
        async with EventRouter.from_config(folder / "squall.yaml") as router:
            await router.subscriber("billing").subscribe(">", handle, name="billing")
            await until(lambda: len(seen) >= count)

    _in_a_thread(taken_up())
    return seen


def _in_a_thread(work: Coroutine[Any, Any, None]) -> None:
    """In a loop of its own: that of the browser runs in the tests' thread."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(work)
        except BaseException as error:  # noqa: BLE001  it is raised again where somebody waits
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`squall serve` of that folder, and its address; it is told to stop afterwards."""
    process = child(folder, "serve", env=ENV)
    try:
        assert process.stdout is not None
        told = process.stdout.readline()
        assert "http://" in told, f"it did not start: {told}{process.communicate()[1]}"
        yield process, told.split()[2]
    finally:
        stop(process, signal.SIGTERM)


def ask(url: str, body: dict[str, object] | None = None) -> dict[str, Any]:
    """Its dead letters; with a body, what it answers to a redrive of that kind."""
    path = "/v1/dead-letters" if body is None else "/v1/dead-letters/redrive"
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url + path, data, {"Authorization": f"Bearer {TOKEN}"}), timeout=STOP_S) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def give_back(url: str, *seqs: int) -> None:
    """Give these back, as somebody else might meanwhile."""
    ask(url, {"seqs": seqs, "token": ask(url, {"seqs": seqs})["token"]})
