"""The committed code of protos/ is what protoc makes of the .proto files now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MESSAGES = sorted((ROOT / "protos").glob("*.proto"))


@pytest.mark.parametrize("source", MESSAGES, ids=lambda path: path.name)
def test_generated_code_is_current(source: Path, tmp_path: Path) -> None:
    """Made again from its source it is the same, to the byte."""
    made = (f"{source.stem}_pb2.py", f"{source.stem}_pb2.pyi")
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", "src", f"--python_out={tmp_path}"]
    command += [f"--pyi_out={tmp_path}", f"src/squall/protos/{source.name}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for name in made:
        fresh = (tmp_path / "squall" / "protos" / name).read_text(encoding="utf-8")
        assert (ROOT / "protos" / name).read_text(encoding="utf-8") == fresh, (
            f"{name} is out of date: run `make protos`"
        )
    assert {path.name for path in (ROOT / "protos").glob(f"{source.stem}_pb2*")} == set(made)
