"""Requests made up from the OpenAPI page: right ones, wrong ones, and what no page allows."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from tests.needed import fuzzing_s
from tests.plugins.serve.children import HEADERS, client_of, one_event, resident_bytes, serving

ROOT = Path(__file__).resolve().parents[3]
CONFIG = "version: 1\nplugins:\n  - memory\n  - serve: {port: 0, token: 'env:BUS_TOKEN'}\n"
EXAMPLES = 100  # of each operation, the same ones every time
EXAMPLES_WITHOUT_END = 1_000_000  # the time that is given ends them
MAX_GROWTH_BYTES = 64_000_000


@pytest.mark.slow
async def test_whatever_is_asked_is_answered_as_the_page_says(tmp_path: Path) -> None:
    """What the page allows is taken, what it does not is refused, each with a status and a body that it names, none
    without the token; meanwhile a client beside it is served, and the server's memory is bounded. (A WebSocket's path
    is left out: whatever HTTP asks of it is refused.)"""
    (tmp_path / "squall.yaml").write_text(CONFIG, encoding="utf-8")
    log = tmp_path / "serve.log"
    with log.open("wb") as file:
        async with serving(tmp_path, log=file) as (server, line), client_of(line) as client:
            before = resident_bytes(server.pid)
            asking = asyncio.create_task(schemathesis(line.split()[2], tmp_path))
            sub, served = await client.subscribe("healthy.>", credit=1_000_000), 0
            while not asking.done():
                await one_event(client, sub)
                served += 1
                await asyncio.sleep(0.01)
            code, said = await asking
            sys.stdout.write(said)
            assert code == 0, said
            assert served > 0
            assert server.returncode is None
            assert resident_bytes(server.pid) - before < MAX_GROWTH_BYTES
            server.terminate()
            assert await server.wait() == 0
    text = log.read_text(encoding="utf-8")
    assert "ERROR" not in text, text
    assert "Traceback" not in text, text


async def schemathesis(url: str, folder: Path) -> tuple[int, str]:
    """Its exit code, and what it says; all its checks, in every phase that needs no state."""
    how_many = ["--max-examples", str(EXAMPLES)]
    if seconds := round(fuzzing_s()):
        how_many = ["--max-examples", str(EXAMPLES_WITHOUT_END), "--max-time", str(seconds)]
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json", "--checks", "all",
        "--phases", "examples,coverage,fuzzing", *how_many, "--generation-deterministic",
        "--exclude-path", "/v1/stream", "--header", f"Authorization: {HEADERS['Authorization']}", "--no-color",
        cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.plugins.serve.binary_mode"},
    )  # fmt: skip
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()  # its end waits for whoever reads what it said
    assert process.returncode is not None
    return process.returncode, said.decode()
