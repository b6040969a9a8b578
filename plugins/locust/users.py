"""Locust's users: each publishes what is due next, waits for its answer, and notes both. Runs in Locust's processes."""

from __future__ import annotations

import locust  # isort: skip  # first: it must change what the others import

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import gevent
import gevent.queue

from squall.core.clock import SystemClock
from squall.core.processor import waited_ns
from squall.plugins.locust.wire import NO_SEQ, ROW, SAYS, Due, Used

TIMEOUT_S = 20.0
Answer = tuple[int, int, bool]
UNKNOWN: Answer = (SAYS.index("info"), NO_SEQ, False)
REFUSED: Answer = (SAYS.index("fail"), NO_SEQ, False)


@dataclass
class Way:
    """Where events are sent, and with which headers; filled in before the first is."""

    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def lead(self, url: str, token: str, source: str) -> None:
        """To this URL, with this token, as events of this source."""
        self.url = f"{url}/v1/events"
        self.headers = {
            "authorization": f"Bearer {token}",
            "content-type": "application/octet-stream",
            "ce-specversion": "1.0",
            "ce-source": source,
        }


class Feed:
    """What is due, for all users of this process; and how much of its processor it used for that. `now` is the bench's
    time: monotonic ns."""

    def __init__(self, now: Callable[[], int]) -> None:
        self.now = now
        self._here = SystemClock().monotonic_ns
        self._queue: gevent.queue.Queue[tuple[int, Due]] = gevent.queue.Queue()
        self._given = 0  # of what was withdrawn since, nothing is sent
        self._since: tuple[int, float, float] | None = None

    def add(self, due: list[Due]) -> None:
        if self._since is None:
            self._since = self._here(), *_processor_s()
        for one in due:
            self._queue.put((self._given, one))

    def withdraw(self) -> Used:
        """Give nothing more of what there is. Returns what was used since the first of it."""
        self._given += 1
        since, self._since = self._since, None
        if since is None:
            return Used(0.0, 0.0)
        passed_s = max(1, self._here() - since[0]) / 1e9
        used_s, waited_s = _processor_s()
        return Used((used_s - since[1]) / passed_s, (waited_s - since[2]) / passed_s)

    def take(self) -> Due:
        """The next, when it is due."""
        while True:
            given, one = self._queue.get()
            while given == self._given and (wait_ns := one.due_ns - self.now()) > 0:
                gevent.sleep(wait_ns / 1e9)
            if given == self._given:
                return one


def _processor_s() -> tuple[float, float]:
    """For how long this process has run, and its thread has waited to run, seconds."""
    used = os.times()
    return used.user + used.system, waited_ns() / 1e9


def publisher(
    way: Way, feed: Feed, ended: Callable[[], int], note: Callable[[bytes], object]
) -> type[locust.FastHttpUser]:
    """The user that publishes what the feed gives. It notes, as rows, that a publish begins, at the feed's time, and
    what became of it, at the time that `ended` says."""

    class Publisher(locust.FastHttpUser):
        """One of many that wait for their answers."""

        network_timeout = connection_timeout = TIMEOUT_S

        @locust.task
        def publish(self) -> None:
            one, answer = feed.take(), UNKNOWN
            headers = {**way.headers, "ce-id": str(one.event), "ce-type": one.type, "ce-priority": one.priority}
            if one.key is not None:
                headers["ce-partitionkey"] = quote(one.key, safe="")
            note(ROW.pack(one.event, feed.now(), NO_SEQ, SAYS.index("begun"), False))
            try:
                sent: Any = one.payload  # bytes are right; the hint says text
                response = self.client.post(way.url, data=sent, headers=headers, name=one.type)
                answer = _answer(response.status_code, response.content, getattr(response, "error", None))
            finally:
                code, seq, duplicate = answer
                note(ROW.pack(one.event, ended(), seq, code, duplicate))

    return Publisher


def _answer(status: int, body: bytes | None, error: Exception | None) -> Answer:
    """What an answer says of the event: a receipt, or a problem with its outcome. Without one, nobody knows; but where
    nobody listened, it was surely not stored."""
    if isinstance(error, ConnectionRefusedError):
        return REFUSED
    try:
        told: Any = json.loads(body or b"null")
    except ValueError:
        return UNKNOWN
    if not isinstance(told, dict):
        return UNKNOWN
    if 200 <= status < 300:
        return SAYS.index("ok"), told.get("seq") or NO_SEQ, bool(told.get("duplicate"))
    return REFUSED if told.get("outcome") == "fail" else UNKNOWN
