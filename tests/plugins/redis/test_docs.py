"""The example of docs/redis.md: two routers in processes of their own, and what the page says that they print."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import pytest
from tests.docs.pages import ROOT, parse
from tests.servers import Server

PAGE = ROOT / "docs" / "redis.md"
LATE_S = 100.0


class Program:
    """One of the page's programs, which runs until it is killed; its lines arrive in `said`."""

    def __init__(self, folder: Path, url: str, said: Queue[str], *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=os.environ | {"SHOP_REDIS_URL": url},
            stdout=subprocess.PIPE,
            text=True,
        )
        self._said = said
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(line.rstrip("\n"))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reading.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def running(folder: Path, url: str, said: Queue[str], *arguments: str) -> Iterator[Program]:
    program = Program(folder, url, said, *arguments)
    try:
        yield program
    finally:
        program.kill()


def lines(said: Queue[str], number: int) -> list[str]:
    """The next lines that are printed. Raises queue.Empty where they don't come."""
    return [said.get(timeout=LATE_S) for _ in range(number)]


@pytest.mark.slow
def test_the_two_routers_do_what_the_page_says(redis_server: Server, tmp_path: Path) -> None:
    """One bills, the other stands by, and goes on when the first is killed."""
    blocks = parse(PAGE)
    for block in blocks:
        if name := block.notes.get("file"):
            (tmp_path / name).write_text(block.text, encoding="utf-8")
    samples = [block.text.splitlines() for block in blocks if block.kind == "text"]
    stored, billed, afterwards = (one for one in samples if one[0].startswith(("order", "one")))

    said, url = Queue[str](), redis_server.url

    def shop(*numbers: str) -> list[str]:
        printed = Queue[str]()
        with running(tmp_path, url, printed, "shop.py", *numbers):
            return lines(printed, len(numbers))

    with (
        running(tmp_path, url, said, "worker.py", "one") as one,
        running(tmp_path, url, said, "worker.py", "two") as two,
    ):
        assert sorted(lines(said, 2)) == ["one: is ready", "two: is ready"]
        assert shop("1", "2", "3") == stored
        orders = lines(said, 3)
        first, me, other = (one, "one", "two") if orders[0].startswith("one") else (two, "two", "one")
        assert orders == [line.replace("one:", f"{me}:") for line in billed]
        first.kill()
        assert shop("3", "4") == afterwards[:2]
        last = afterwards[2].replace("two:", f"{other}:")
        again = {line.replace(f"{me}:", f"{other}:") for line in orders}
        while (line := lines(said, 1)[0]) != last:  # what was handled, and not yet settled
            assert line in again
            again.remove(line)
    assert said.empty()
