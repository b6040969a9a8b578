"""`squall load-worker`: publishes for runs on another machine, until it is told to stop."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import msgspec
import typer

from squall.core.errors import ConfigError, Problem
from squall.plugins.locust.driver import PROGRAM
from squall.plugins.locust.options import PORT
from squall.plugins.locust.wire import GONE, OVER, TURNED_AWAY, Errand


def load_worker(
    master: Annotated[
        str, typer.Argument(metavar="HOST:PORT", help="where the run listens, or the tunnel to it")
    ] = f"127.0.0.1:{PORT}",
    once: Annotated[bool, typer.Option("--once", help="end after one run, instead of waiting for the next")] = False,
) -> int:
    """Publish for runs on another machine, whose driver is locust with `join`.

    It waits for a run, joins it, publishes its share, and waits for the next; Ctrl-C ends it. HOST:PORT is the run's,
    as a tunnel brings it here; the next port must come too: through it this machine publishes.

    \b
    Example:
      ssh -N -L 5557:127.0.0.1:5557 -L 5558:127.0.0.1:5558 bench &
      squall load-worker 127.0.0.1:5557
    """
    host, _, port = master.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65535:
        raise ConfigError([Problem("HOST:PORT", f"expected an address such as 127.0.0.1:{PORT}, got '{master}'")])
    try:
        version("locust")
    except PackageNotFoundError:
        raise ConfigError("load-worker needs Locust: pip install 'squall[locust]'") from None
    errand = msgspec.json.encode(Errand(host, int(port))).decode()
    while True:
        typer.echo(f"waiting for a run at {master}", err=True)
        # Its input ends with this process, however that ends, and it with its input; Ctrl-C is not for it.
        command = [sys.executable, "-P", str(PROGRAM), errand]
        with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
            code = process.wait()
        if code == OVER:
            typer.echo("the run is over", err=True)
        if once or code not in (OVER, GONE):
            return code if code in (OVER, TURNED_AWAY) else GONE
