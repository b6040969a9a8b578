"""Takes the pictures of the documentation anew, of real runs: `make pictures` (RATE=3000 on a machine that is slow).

Each is 1280 pixels wide, small, and says nothing of the machine that it was taken on: what would is an error.
"""

from __future__ import annotations

import contextlib
import io
import os
import pty
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
from PIL import Image
from playwright.sync_api import Browser, FloatRect, Locator, Page
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text
from tests.browser import headless
from tests.dashboards.browsing import dashboard, settled
from tests.docs.pages import GUIDE, ROOT, environment, run_page

from squall.chaos.installed import where

PICTURES = ROOT / "docs" / "pictures"
WIDTH = 1280
COLUMNS = 110
MAX_BYTES = 200_000
DRAWN_MS = 1500
"""So long charts move until they stand still."""
TERMINAL = """\
<!doctype html><meta charset="utf-8"><style>
body { margin: 0; background: #16181d; color: #e6e6e6 }
pre { margin: 0; padding: 28px 32px; font: 18px/1.45 "DejaVu Sans Mono", monospace }
</style><pre>{code}</pre>"""


def ran(scenario: str, folder: Path, sets: Sequence[str] = ()) -> str:
    """Run the scenario there, as at a terminal; what it printed. Raises RuntimeError where it is not valid."""
    arguments = ["run", scenario, *(word for one in sets for word in ("--set", one))]
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "squall", *arguments],
        cwd=folder,
        env=os.environ | {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):  # how a terminal tells that nobody writes to it any more
            while part := os.read(ours, 65536):
                said += part
        os.close(ours)
    text = said.decode().replace("\r\n", "\n")
    if process.returncode:
        raise RuntimeError(f"squall {' '.join(arguments)} ended with {process.returncode}:\n{text}")
    return f"$ squall {' '.join(arguments)}\n{text}"


@contextlib.contextmanager
def page_of(browser: Browser, height: int = 900) -> Iterator[Page]:
    """An empty page, as wide as a picture."""
    page = browser.new_page(viewport={"width": WIDTH, "height": height}, color_scheme="light")
    yield page
    page.close()


def keep(page: Page, path: Path, *, height: int | None = None) -> None:
    """A picture of what is in sight, or of so many pixels from the page's top. Raises RuntimeError where it shows a
    path, or is too large."""
    said = page.evaluate("document.body.innerText")
    for place in (str(Path.home()), str(ROOT), "/tmp/"):
        if place in said:
            raise RuntimeError(f"{path.name} would show {place}")
    clip: FloatRect | None = None if height is None else {"x": 0, "y": 0, "width": WIDTH, "height": height}
    taken = page.screenshot(clip=clip, full_page=height is not None)
    with Image.open(io.BytesIO(taken)) as picture:  # of 256 colours: half the bytes, and nobody sees it
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    if path.stat().st_size > MAX_BYTES:
        raise RuntimeError(f"{path.name} has {path.stat().st_size:,} bytes, at most {MAX_BYTES:,} are wanted")


def bottom(part: Locator) -> int:
    """Where the part of a page ends, in pixels from its top."""
    box = part.bounding_box()
    assert box is not None, part
    return int(box["y"] + box["height"])


def take_terminal(browser: Browser, said: str, path: Path) -> None:
    """What a command printed, as a terminal shows it."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(said.rstrip("\n")), soft_wrap=True)
    html = console.export_html(theme=MONOKAI, inline_styles=True, code_format="{code}")
    with page_of(browser) as page:
        page.set_content(TERMINAL.replace("{code}", html))
        keep(page, path, height=bottom(page.locator("pre")))


def take_report(browser: Browser, run: Path, path: Path) -> None:
    """The report's verdict and charts."""
    with page_of(browser) as page:
        page.goto((run / "report.html").as_uri())
        keep(page, path, height=bottom(page.locator(".plot").nth(2)) + 60)


def worst_hit(run: Path) -> int:
    """Of the events that were handled in the end, the one whose attempts took longest."""
    history = run / "history"
    with duckdb.connect() as db:
        (row,) = db.execute(
            f"""SELECT event FROM '{history}/attempt.parquet' WHERE event IS NOT NULL
            GROUP BY event HAVING bool_or(result = 'ok') ORDER BY sum(ended - begun) DESC LIMIT 1"""
        ).fetchall()
    return int(row[0])


def take_dashboard(browser: Browser, address: str, run: Path, into: Path) -> None:
    """What happened over time, many traces, and one."""
    name = run.parent.name
    with page_of(browser, 774) as page:
        page.goto(f"{address}overview?run={name}")
        settled(page)
        page.locator("canvas").last.evaluate("canvas => canvas.scrollIntoView({block: 'end'})")
        page.wait_for_timeout(DRAWN_MS)
        keep(page, into / "over-time.png")
        page.goto(f"{address}traces?run={name}&event={worst_hit(run)}")
        settled(page)
        page.wait_for_timeout(DRAWN_MS)
        keep(page, into / "trace.png", height=bottom(page.locator(".fan")) + 32)


def guide_followed(folder: Path) -> Path:
    """Do all that the guide says, in an empty folder; returns it."""
    folder.mkdir()
    run_page(GUIDE, folder)
    return folder


def guide_dashboard(folder: Path) -> contextlib.AbstractContextManager[tuple[subprocess.Popen[str], str]]:
    """The dashboard as the guide's reader has it."""
    return dashboard(folder / "storm-kit" / "runs", environment(folder))


def take_first_plugin(browser: Browser, folder: Path, path: Path) -> None:
    """The guide's plugin in the chain of its run."""
    with guide_dashboard(folder) as (_, address), page_of(browser, 560) as page:
        page.goto(f"{address}plugins?run=storm-kit")
        settled(page)
        keep(page, path)


def take_all(into: Path, sets: Sequence[str] = ()) -> None:
    """All pictures of the documentation; first-storm is run with these variables."""
    chromium = where("chromium")
    if chromium is None:
        raise RuntimeError("chromium is not installed: apt-get install chromium")
    into.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="squall-pictures-") as work, headless(chromium) as browser:
        folder = Path(work)
        take_terminal(browser, ran("first-storm", folder, sets), into / "verdict.png")
        run = (folder / "runs" / "first-storm" / "latest").resolve()
        take_report(browser, run, into / "report.png")
        with dashboard(folder / "runs") as (_, address):
            take_dashboard(browser, address, run, into)
        take_first_plugin(browser, guide_followed(folder / "guide"), into / "first-plugin.png")


if __name__ == "__main__":
    take_all(PICTURES, [f"rate={os.environ['RATE']}"] if os.environ.get("RATE") else [])
