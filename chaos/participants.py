"""The subscribers of a run: who joins and leaves when, what handles their events, and what the target says of them."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from squall.chaos.history import HistoryWriter
from squall.chaos.message import event_of
from squall.chaos.recorder import Recorder
from squall.chaos.scenario import Scenario
from squall.chaos.scenario_models import Subscriber
from squall.core.config import Config
from squall.core.errors import Reject, Retry
from squall.core.failures import described
from squall.core.fault import Handler, Seam
from squall.core.scrub import known_secrets, scrubber
from squall.core.target import Handle, Received, Target


@dataclass
class _Stay:
    """One subscriber from joining to leaving. Times are monotonic ns."""

    number: int
    name: str
    join_invoked: int
    join_ok: int | None = None
    leave_invoked: int | None = None
    leave_ok: int | None = None
    handle: Handle | None = None
    to_seq: int | None = None


class Participants:
    """All subscribers, each with its seam `handler:<name>`."""

    def __init__(
        self, scenario: Scenario, config: Config, target: Target, recorder: Recorder, writer: HistoryWriter
    ) -> None:
        self._scenario, self._target, self._recorder, self._writer = scenario, target, recorder, writer
        self._handlers = {name: self._handler(name, one, config) for name, one in scenario.subscribers.items()}
        self._stays: dict[str, _Stay] = {}
        self._seams = {name: Handler(f"handler:{name}") for name in scenario.subscribers}

    @property
    def seams(self) -> dict[str, Seam]:
        """Where faults may take hold, by name."""
        return {seam.name: seam for seam in self._seams.values()}

    def _handler(self, name: str, subscriber: Subscriber, config: Config) -> Callable[[Received], Awaitable[None]]:
        if subscriber.handler.call is not None:
            return _told_once(name, subscriber.handler.call, config.handler(subscriber.handler.call))
        latency_s, sleep = subscriber.handler.latency or 0.0, self._recorder.clock.sleep

        async def work(received: Received) -> None:
            if latency_s:
                await sleep(latency_s)

        return work

    async def join_first(self) -> None:
        """Everyone who is there from the start."""
        for name, subscriber in self._scenario.subscribers.items():
            if subscriber.join is None:
                await self._join(name, subscriber)
        self._record_stays()

    async def come_and_go(self, load_began_ns: int) -> None:
        """Who joins or leaves during the load, at its time."""
        clock = self._recorder.clock
        marks = [(s.join, 0, name) for name, s in self._scenario.subscribers.items() if s.join is not None]
        marks += [(s.leave, 1, name) for name, s in self._scenario.subscribers.items() if s.leave is not None]
        for at_s, leaves, name in sorted(marks):
            wait_s = at_s - (clock.monotonic_ns() - load_began_ns) / 1e9
            if wait_s > 0:
                await clock.sleep(wait_s)
            if leaves:
                await self._leave(name)
            else:
                await self._join(name, self._scenario.subscribers[name])
            self._record_stays()

    async def _join(self, name: str, subscriber: Subscriber) -> None:
        spec, now = subscriber.spec(name), self._recorder.now
        stay = self._stays[name] = _Stay(len(self._stays), name, now())
        sink = self._recorder.sink(stay.number, spec, self._seams[name], self._handlers[name])
        stay.handle = await self._target.subscribe(spec, sink)
        stay.join_ok = now()

    async def _leave(self, name: str) -> None:
        stay = self._stays[name]
        if stay.handle is not None:
            stay.leave_invoked = self._recorder.now()
            stay.to_seq = await self._target.unsubscribe(stay.handle)
            stay.leave_ok = self._recorder.now()

    async def record_ends(self) -> None:
        """Write the subscriptions, and the target's own word: its sums, and what it dead-lettered. What it raises when
        it is asked is raised; the history has a gap then, since what it would have named looks lost."""
        self._record_stays()
        now, numbers = self._recorder.now(), {name: stay.number for name, stay in self._stays.items()}
        rows: list[tuple[str, int | None, int]] = []
        try:
            counters, terminals = await self._target.counters(), await self._target.terminals()
        except Exception:
            why = "the target could not be asked for its sums and dead letters"
            columns: dict[str, list[object]] = {"source": ["attempt"], "begun": [now], "ended": [self._recorder.now()]}
            self._writer.append("gap", columns | {"lost": [None], "why": [why]})
            raise
        if counters.stored is not None:
            rows.append(("stored", None, counters.stored))
        for name, counts in counters.subscribers.items():
            rows += [(what, numbers[name], value) for what, value in counts._asdict().items() if value is not None]
        if rows:
            self._writer.append(
                "counter",
                {
                    "time": [now] * len(rows),
                    "name": [row[0] for row in rows],
                    "subscription": [row[1] for row in rows],
                    "value": [row[2] for row in rows],
                },
            )
        ends = []
        for terminal in terminals:
            ended = event_of(terminal.payload, self._recorder.nonce)
            if ended is not None and terminal.subscriber in numbers:
                ends.append((ended, numbers[terminal.subscriber], terminal.state, now, terminal.source))
        if ends:
            event, subscription, state, time, source = (list(column) for column in zip(*ends, strict=True))
            self._writer.append(
                "terminal",
                {"event": event, "subscription": subscription, "state": state, "time": time, "source": source},
            )

    def _record_stays(self) -> None:
        """Write who subscribes, as far as it is known by now: a run that is killed has told it."""
        stays = list(self._stays.values())
        specs = [self._scenario.subscribers[stay.name] for stay in stays]
        if not stays:
            return
        self._writer.rewrite(
            "subscription",
            {
                "subscription": [stay.number for stay in stays],
                "name": [stay.name for stay in stays],
                "pattern": [spec.pattern for spec in specs],
                "filters": [
                    json.dumps([one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in spec.filters])
                    if spec.filters
                    else None
                    for spec in specs
                ],
                "priority_min": [None if spec.priority_min is None else int(spec.priority_min) for spec in specs],
                "durable": [spec.durable for spec in specs],
                "delivery": [str(spec.delivery) for spec in specs],
                "start": [str(spec.start) for spec in specs],
                "on_retry": [str(spec.on_retry) for spec in specs],
                "concurrency": [spec.concurrency for spec in specs],
                "timeout": [round(spec.timeout * 1e9) for spec in specs],
                "join_invoked": [stay.join_invoked for stay in stays],
                "join_ok": [stay.join_ok for stay in stays],
                "leave_invoked": [stay.leave_invoked for stay in stays],
                "leave_ok": [stay.leave_ok for stay in stays],
                "from_seq": [stay.handle.from_seq if stay.handle is not None else None for stay in stays],
                "to_seq": [stay.to_seq for stay in stays],
            },
        )


def _told_once(subscriber: str, handler: str, call: Callable[[bytes], object]) -> Callable[[Received], Awaitable[None]]:
    """A scenario's own code. The first error that it raises is logged: no fault has made it."""
    told = False

    async def code(received: Received) -> None:
        nonlocal told
        try:
            answer = call(received.payload)
            if isinstance(answer, Awaitable):
                await answer
        except (SystemExit, KeyboardInterrupt) as error:  # it would end the run, with an exit code of its own
            raise RuntimeError(f"the handler raised {error!r}") from error
        except Exception as error:
            if not told and not isinstance(error, Retry | Reject):
                told = True
                what = described(error, scrubber(known_secrets(os.environ, ())))
                log = logging.getLogger("squall")
                log.warning("subscriber %s: its handler %s raised %s; logged once a run", subscriber, handler, what)
            raise

    return code
