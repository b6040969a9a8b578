"""Every command and every block of code in the documentation does what it says."""

import importlib.util
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from tests.docs.pages import GUIDE, ROOT, BrokenPage, commands, parse, run_page

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
HIDDEN = (".", "_", "build", "dist", "runs", "data")
SETTING_UP = re.compile(r"make (setup|services|run|test|check|bench)")
MAX_LINE = 120
MAX_IMAGE_BYTES = 200_000
MAX_PLUGIN_LINES = 30


def each(pages: Iterable[Path]) -> pytest.MarkDecorator:
    """A test of each of these pages."""
    return pytest.mark.parametrize("page", [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in pages])


every_page = each(PAGES)


@pytest.mark.slow
@each(page for page in PAGES if page != GUIDE)  # which test_pictures.py follows, to see what comes of it
def test_page_runs_as_written(page: Path, tmp_path: Path) -> None:
    """Each block of the page is run, written or validated, in order, in one folder."""
    run_page(page, tmp_path)


def documents(folder: Path) -> Iterator[Path]:
    """Every Markdown file below folder, but for what is hidden or made."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(HIDDEN) or path.is_symlink():
            continue
        if path.is_dir():
            yield from documents(path)
        elif path.suffix == ".md":
            yield path


def test_no_page_is_left_out() -> None:
    """A page outside of what is run would be a page that nobody holds to its word."""
    assert sorted(documents(ROOT)) == PAGES


def test_every_page_can_be_found() -> None:
    """From the README, or from a page that it names."""
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            targets = (target.partition("#")[0] for target in links(page) if "://" not in target)
            waiting += [path for target in targets if (path := (page.parent / target).resolve()) in PAGES]
    assert reached == set(PAGES)


@every_page
def test_only_what_sets_up_is_not_run(page: Path) -> None:
    """A block that is called a set-up holds nothing else, and no command hides in a sample."""
    for block in parse(page):
        if "setup" in block.notes:
            assert all(SETTING_UP.fullmatch(command) for command in commands(block)), block.place
        if block.kind == "text":
            assert not re.search(r"^\$ ", block.text, re.MULTILINE), block.place


@every_page
def test_no_command_leads_away(page: Path) -> None:
    """A reader has one shell for all blocks: who goes elsewhere has to come back, `(cd storm-kit && pytest)`."""
    for block in parse(page):
        if block.kind in ("console", "bash") and "setup" not in block.notes:
            assert not any(re.search(r"(^|[;&\n] *)cd ", command) for command in commands(block)), block.place


def links(page: Path) -> list[str]:
    """What the page links to and shows, as written."""
    tokens = MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8"))
    inline = [child for token in tokens for child in token.children or ()]
    return [str(one.attrs[name]) for one in inline for name in ("href", "src") if name in one.attrs]


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    """Files, headings and pictures that the page names are there; pictures are small."""
    for target in links(page):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name}: {target}"
        assert path.is_relative_to(ROOT), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(path), f"{page.name}: {target}: there is no such heading"
        if path.suffix in (".png", ".svg"):
            assert path.stat().st_size <= MAX_IMAGE_BYTES, target


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "hooks.md"], ids=lambda page: page.name)
def test_lines_can_be_read(page: Path) -> None:
    """Rows of tables may be long, prose and code may not. (docs/hooks.md is written by a program.)"""
    lines = page.read_text(encoding="utf-8").splitlines()
    long = [number for number, line in enumerate(lines, 1) if len(line) > MAX_LINE and not line.startswith("|")]
    assert long == [], page.name


def test_the_guides_plugin_is_short() -> None:
    """As it promises: a working plugin of one's own in under 30 lines."""
    first = next(block for block in parse(ROOT / "docs" / "plugin-guide.md") if block.kind == "python")
    assert "hookimpl" in first.text
    assert len(first.text.splitlines()) < MAX_PLUGIN_LINES


def written(folder: Path, text: str) -> Path:
    """A page with this text."""
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


def test_blocks_share_a_folder_and_run_in_order(tmp_path: Path) -> None:
    """A file that one block writes is there for the next, whatever language that is in."""
    page = written(
        tmp_path,
        "<!-- file: greet.py -->\n```python\nNAME = 'storm'\n```\n"
        "```python\nfrom greet import NAME\nfrom pathlib import Path\nPath('out').write_text(NAME)\n```\n"
        "```console\n$ grep -q storm out\nany output\n$ test -e scenarios && \\\n  test -e Makefile\n```\n"
        "```bash\nX=$(cat out)\ntest $X = storm\n```\n"
        "<!-- a remark -->\n# Heading\n```text\nfree\n```\n<!-- setup -->\n```console\n$ false\n```\n"
        "<!-- exit: 3 -->\n<!-- file: a/b.txt -->\n```text\n```\n"
        "<!-- exit: 1 -->\n```console\n$ test -s a/b.txt\n```\n",
    )
    (tmp_path / "clone").mkdir()
    assert run_page(page, tmp_path / "clone") == 6


@pytest.mark.slow  # each in a copy of the tree
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```\nplain\n```\n", "unknown kind of block ''"),
        ("```ruby\nputs\n```\n", "unknown kind of block 'ruby'"),
        ("text\n\n    indented\n", "an indented block has no kind"),
        ("<!-- skip -->\n```text\n```\n", "unknown note 'skip'"),
        ("```console\nsquall run x\n```\n", "nothing would be run"),
        ("```console\n$ false\n$ true\n```\n", "false: expected exit code 0, got 1"),
        ("```console\n$ true\n```\n```console\n$ false\n```\n", "page.md:4: false"),
        ("<!-- exit: 1 -->\n```console\n$ true\n```\n", "expected exit code 1, got 0"),
        ("<!-- exit: 1 -->\n\nbetween\n\n```console\n$ false\n```\n", "expected exit code 0, got 1"),
        ("```bash\nfalse\ntrue\n```\n", "expected exit code 0, got 1"),
        ("```python\nraise SystemExit(3)\n```\n", "expected exit code 0, got 3"),
        ("```yaml\nversion: 1\n```\n", "a yaml block needs"),
        ("<!-- file: ../x -->\n```python\n```\n", "outside the page's folder"),
        ("<!-- says: more -->\n```console\n$ echo less\n```\n", "expected it to print 'more', it printed\nless"),
        ("<!-- says: b -->\n```python\nprint('a')\n```\n", "expected it to print 'b'"),
        ("```toml\na = 1\n```\n", "a toml block needs"),
    ],
)
def test_page_that_does_not_hold_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    """Nothing passes without having been run."""
    (tmp_path / "clone").mkdir()
    with pytest.raises(BrokenPage, match=complaint):
        run_page(written(tmp_path, text), tmp_path / "clone")


@pytest.mark.slow
def test_yaml_is_validated(tmp_path: Path) -> None:
    """A wrong scenario, and a wrong part of a right one, are refused with squall's own message, at their place."""
    scenario = (ROOT / "scenarios" / "calm.yaml").read_text(encoding="utf-8")
    right = f"<!-- file: calm.yaml -->\n```yaml\n{scenario}```\n"
    after = right.count("\n")
    for number, (wrong, complaint) in enumerate(
        [
            (right.replace("version: 1", "vresion: 1"), r"page\.md:2: (?s:.*)vresion"),
            (f"{right}<!-- part of: calm.yaml -->\n```yaml\nfaults: 7\n```\n", rf"page\.md:{after + 2}: (?s:.*)faults"),
        ]
    ):
        clone = tmp_path / str(number)
        clone.mkdir()
        with pytest.raises(BrokenPage, match=complaint):
            run_page(written(tmp_path, wrong), clone)


@pytest.mark.slow
def test_what_a_page_installs_stays_its_own(tmp_path: Path) -> None:
    """A package in the page's folder is built and installed for the page's commands, and for nobody else."""
    project = '[project]\nname = "rain"\nversion = "1"\n[tool.setuptools]\npy-modules = ["rain"]\n'
    page = written(
        tmp_path,
        f"<!-- file: rain/pyproject.toml -->\n```toml\n{project}```\n"
        "<!-- file: rain/rain.py -->\n```python\nWET = True\n```\n"
        "<!-- says: Successfully installed rain-1 -->\n```console\n$ pip install ./rain\n```\n"
        "```python\nimport rain\nassert rain.WET\n```\n",
    )
    (tmp_path / "clone").mkdir()
    assert run_page(page, tmp_path / "clone") == 4
    assert importlib.util.find_spec("rain") is None


def test_commands_are_the_lines_after_a_prompt(tmp_path: Path) -> None:
    """Output that looks like a command is not run."""
    (block,) = parse(written(tmp_path, "```console\n$ squall run a.yaml \\\n    --seed 1\nVALID $ 3\n$ ls\n```\n"))
    assert commands(block) == ["squall run a.yaml      --seed 1", "ls"]
