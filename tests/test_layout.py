"""The folders at the top are the package: a checkout without its links must fail loudly."""

import importlib
from pathlib import Path

import pytest

import squall

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "squall"
SUBPACKAGES = ("core", "plugins", "chaos", "dashboards", "protos")
LINKS = (*SUBPACKAGES, "scenarios")


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_subpackage_is_the_folder_at_the_top(name: str) -> None:
    """`squall.X` and `X/__init__.py` are one file."""
    module = importlib.import_module(f"squall.{name}")
    assert module.__file__ is not None
    assert Path(module.__file__).samefile(ROOT / name / "__init__.py")


@pytest.mark.parametrize("name", LINKS)
def test_link_is_relative(name: str) -> None:
    """Each link survives a move of the checkout."""
    link = PACKAGE / name
    assert link.is_symlink(), f"{link} is not a link: was this tree checked out without symbolic links?"
    assert link.readlink() == Path("../..", name)


def test_package_holds_nothing_but_links_and_its_entrance() -> None:
    """Code lives in the folders at the top, so that nobody has to look in two places."""
    assert squall.__file__ is not None
    assert Path(squall.__file__).samefile(PACKAGE / "__init__.py")
    found = {entry.name for entry in PACKAGE.iterdir() if entry.name != "__pycache__"}
    assert found == {*LINKS, "__init__.py", "__main__.py", "py.typed"}
