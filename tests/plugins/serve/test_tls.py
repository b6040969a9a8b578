"""TLS by option: HTTP and WebSocket over it, and nothing else on that port."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest
from tests.needed import needed
from tests.plugins.serve.served import Served, read_answer
from typer.testing import CliRunner
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from squall.chaos.cli import app
from squall.protos import wire_pb2 as pb


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, str]:
    """A certificate of localhost, signed by itself."""
    files = {"certificate": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    command = [str(needed("openssl", "apt-get install openssl")), "req", "-x509", "-newkey", "rsa:2048", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, "-out", files["certificate"], "-keyout", files["key"]], capture_output=True, check=True)
    return files


async def test_both_ways_in_are_over_tls(tls: dict[str, str]) -> None:
    """By the certificate that the options name."""
    async with Served(tls=tls) as served:
        assert served.server.url.startswith("https://")
        trusted = ssl.create_default_context(cafile=tls["certificate"])
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=trusted)
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await read_answer(reader)).status == 200
        writer.close()
        await writer.wait_closed()
        url = served.server.url.replace("https", "wss") + "/v1/stream"
        async with connect(url, ssl=trusted, proxy=None, subprotocols=[Subprotocol("squall.v1")]) as socket:
            data = await socket.recv()
            assert isinstance(data, bytes)
            assert pb.ServerFrame.FromString(data).WhichOneof("frame") == "welcome"


async def test_plain_http_gets_no_answer(tls: dict[str, str]) -> None:
    """The connection ends, and the server goes on."""
    async with Served(tls=tls) as served:
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await served.http("GET", "/readyz")


async def test_the_command_line_trusts_whom_it_is_told_to_trust(tls: dict[str, str]) -> None:
    """A certificate that nobody vouches for is refused, with what to do."""
    async with Served(tls=tls) as served:
        told = ["dlq", "list", "--url", f"https://localhost:{served.port}"]
        refused = await asyncio.to_thread(lambda: CliRunner().invoke(app, told))
        assert refused.exit_code == 4
        assert "SSL_CERT_FILE names" in refused.output
        trusted = {"SSL_CERT_FILE": tls["certificate"]}
        found = await asyncio.to_thread(lambda: CliRunner().invoke(app, told, env=trusted))
        assert (found.exit_code, found.output) == (0, "no dead letters\n")
