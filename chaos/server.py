"""A server that squall starts: one process at a free port of loopback, ended by its pid, and by nothing else.

All calls block until what they say is so: in a coroutine, `await asyncio.to_thread(server.kill)`.

Nothing outlives whoever uses it, even if that is killed: a user holds a lock on the server's folder, and a guard beside
the server waits for that lock to be free of users, to kill what is still there. The lock is lockf's, which what a user
forks does not inherit: that could outlive it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from threading import Lock
from types import TracebackType
from typing import IO, Self

from squall.core.clock import Clock, SystemClock
from squall.core.errors import SquallError
from squall.core.identity import fresh_seed

HOST = "127.0.0.1"
# Below the range that outgoing connections are given ports from: a client that knocks at the port of a killed server
# would be connected to itself now and then, or the port be somebody else's when the server comes back.
PORTS = range(20_000, 32_000)
START_TIMEOUT_S = 120.0
POLL_S = 0.01
SHOWN_CHARACTERS = 2_000
GUARD = """\
import contextlib, fcntl, os, select, shutil, signal, sys
users, process, state, temporary = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
fcntl.lockf(users, fcntl.LOCK_EX)
with contextlib.suppress(FileNotFoundError):
    os.unlink(state)
with contextlib.suppress(ProcessLookupError):
    signal.pidfd_send_signal(process, signal.SIGKILL)
if temporary:
    select.select([process], [], [])
    folder = os.path.dirname(state)
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(folder))
"""
"""It knows the process by a descriptor, since a pid may be somebody else's by then; and the users too, since their
folder may be gone before it looks."""


class DidNotStart(SquallError):
    """A server that ended, or did not answer in time."""


class Server:
    """One process of a server, and its folder. A context manager: started when entered, stopped when left.

    log: where what it prints goes; None: `log` in its folder. `exit_code` is that of the process that ended last, as
    Popen has it: negative, the signal that ended it. `temporary`: where its user is killed, its folder is removed, and
    the one above it if nothing else is in there.
    """

    def __init__(
        self,
        folder: Path,
        command: Sequence[str],
        answers: Callable[[], bool],
        *,
        port: int,
        scheme: str,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.folder = folder
        self.port = port
        self.url = f"{scheme}://{HOST}:{port}"
        self.answers = answers
        self.exit_code: int | None = None
        self.temporary = False
        self._log = log or folder / "log"
        self._command = command
        self._clock = clock or SystemClock()
        self._environment = os.environ | dict(environment or {})
        self._changing = Lock()  # process and guard are there together
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._users: IO[str] | None = None

    @property
    def pid(self) -> int:
        """The process that runs now. Raises SquallError where there is none."""
        return self._running.pid

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise SquallError(f"{self.name} is not running")
        return self._process

    @property
    def name(self) -> str:
        """What its program is called."""
        return Path(self._command[0]).name

    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def start(self) -> None:
        """Start it on its port and folder, and return when it answers. Raises DidNotStart with the end of its log."""
        if self._process is not None:
            raise SquallError(f"{self.name} is running")
        self._users = self._users or use(self.folder)
        with self._log.open("ab") as log, self._changing:
            process = self._process = _spawn(self._command, log, self._environment)
            self._guard = self._watch(process, self._users)
        deadline_ns = self._clock.monotonic_ns() + round(START_TIMEOUT_S * 1e9)
        while not self.answers():
            ended = _within(process, POLL_S)
            if ended is not None or self._clock.monotonic_ns() > deadline_ns:
                self._leave()
                why = f"ended with {ended}" if ended is not None else f"did not answer within {START_TIMEOUT_S:g} s"
                raise DidNotStart(f"{self.name} {why}\n{self.log()[-SHOWN_CHARACTERS:]}")

    def _watch(self, process: subprocess.Popen[bytes], users: IO[str]) -> subprocess.Popen[bytes]:
        known = os.pidfd_open(process.pid)  # not reaped yet, so it is this one
        try:
            descriptors = users.fileno(), known
            told = *map(str, descriptors), str(paths(self.folder)[1]), "yes" if self.temporary else ""
            guard = [sys.executable, "-I", "-S", "-c", GUARD, *told]
            return _spawn(guard, subprocess.DEVNULL, os.environ, descriptors)
        finally:
            os.close(known)

    def kill(self) -> None:
        """End it at once, as `kill -9` and a power cut of the process would; return when it is gone. It may be called
        while another thread starts it, which raises DidNotStart then; or goes on, where nothing was started yet."""
        with self._changing:
            if self._guard is not None:
                self._guard.kill()
                self._guard.wait()
            if self._process is not None:
                self._process.kill()
                self.exit_code = self._process.wait()
            self._guard = self._process = None

    def end(self, within_s: float) -> None:
        """Tell it to end, by SIGTERM, and return when it is gone. Raises SquallError when that takes longer; it is
        killed then, since it may end at any time later."""
        process = self._running
        process.terminate()
        ended = _within(process, within_s) is not None
        self.kill()
        if not ended:
            raise SquallError(f"{self.name} (pid {process.pid}) did not end within {within_s:g} s of SIGTERM: killed")

    def suspend(self) -> None:
        """Let it stand still; return when it does."""
        self._running.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Let it go on, and return when it answers. Raises DidNotStart."""
        self._running.send_signal(signal.SIGCONT)
        deadline_ns = self._clock.monotonic_ns() + round(START_TIMEOUT_S * 1e9)
        while not self.answers():
            if _within(self._running, POLL_S) is not None or self._clock.monotonic_ns() > deadline_ns:
                raise DidNotStart(f"{self.name} (pid {self.pid}) does not answer after it was suspended")

    def stop(self) -> None:
        """End it for good, when nobody else uses its folder any more. What it keeps there is of no more interest."""
        if self._users is None:
            return
        fcntl.lockf(self._users, fcntl.LOCK_EX)
        paths(self.folder)[1].unlink(missing_ok=True)
        self._leave()

    def _leave(self) -> None:
        self.kill()
        if self._users is not None:
            self._users.close()
            self._users = None

    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _within(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Its exit code, as soon as it has one; None when it still runs after so long."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    return None


def _spawn(
    command: Sequence[str], output: IO[bytes] | int, environment: Mapping[str, str], descriptors: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """A process in a session of its own: an interrupt at the terminal is not its business."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
        pass_fds=descriptors,
    )


def paths(folder: Path) -> tuple[Path, Path]:
    """The file that users lock, and the one that says where the server is."""
    return folder / "users", folder / "url"


def use(folder: Path) -> IO[str]:
    """Become a user of the server in the folder, until the file is closed."""
    folder.mkdir(parents=True, exist_ok=True)
    users = paths(folder)[0].open("a+", encoding="utf-8")
    fcntl.lockf(users, fcntl.LOCK_SH)
    return users


def free_port() -> int:
    """A port on loopback that nobody has now, and that nobody is given by chance."""
    random = Random(fresh_seed())  # not of the run's seed: two runs of one scenario must not meet
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return port
