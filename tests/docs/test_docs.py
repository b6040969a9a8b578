"""Every command and every block of code in the documentation does what it says."""

from pathlib import Path

import pytest
from tests.docs.pages import ROOT, BrokenPage, commands, parse, run_page

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.slow
@pytest.mark.parametrize("page", [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in PAGES])
def test_page_runs_as_written(page: Path, tmp_path: Path) -> None:
    """Each block of the page is run, written or validated, in order, in one folder."""
    run_page(page, tmp_path)


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
    ],
)
def test_page_that_does_not_hold_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    """Nothing passes without having been run."""
    (tmp_path / "clone").mkdir()
    with pytest.raises(BrokenPage, match=complaint):
        run_page(written(tmp_path, text), tmp_path / "clone")


@pytest.mark.slow
def test_yaml_is_validated(tmp_path: Path) -> None:
    """A wrong scenario, and a wrong part of a right one, are refused with squall's own message."""
    scenario = (ROOT / "scenarios" / "calm.yaml").read_text(encoding="utf-8")
    right = f"<!-- file: calm.yaml -->\n```yaml\n{scenario}```\n"
    for number, (wrong, complaint) in enumerate(
        [
            (right.replace("version: 1", "vresion: 1"), "vresion"),
            (f"{right}<!-- part of: calm.yaml -->\n```yaml\nfaults: 7\n```\n", "faults"),
        ]
    ):
        clone = tmp_path / str(number)
        clone.mkdir()
        with pytest.raises(BrokenPage, match=complaint):
            run_page(written(tmp_path, wrong), clone)


def test_commands_are_the_lines_after_a_prompt(tmp_path: Path) -> None:
    """Output that looks like a command is not run."""
    (block,) = parse(written(tmp_path, "```console\n$ squall run a.yaml \\\n    --seed 1\nVALID $ 3\n$ ls\n```\n"))
    assert commands(block) == ["squall run a.yaml      --seed 1", "ls"]
