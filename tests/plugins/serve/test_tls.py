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

pytestmark = pytest.mark.slow  # certificates are made by a program


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, str]:
    """A certificate of localhost, signed by itself."""
    files = {"certificate": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    command = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    openssl(*command, "-out", files["certificate"], "-keyout", files["key"])
    return files


def openssl(*arguments: str) -> None:
    """Make a key or a certificate."""
    program = str(needed("openssl", "apt-get install openssl"))
    subprocess.run([program, *arguments], capture_output=True, check=True)


def told(folder: Path, certificate: str, key: str) -> str:
    """What `squall serve` says of such files, and nothing else; a mistake in the configuration."""
    config = folder / "squall.yaml"
    tls = f"{{certificate: {certificate}, key: {key}}}"
    config.write_text(f"version: 1\nplugins: [memory, serve: {{port: 0, tls: {tls}}}]\n", encoding="utf-8")
    ended = CliRunner().invoke(app, ["serve", "--config", str(config)])
    assert ended.exit_code == 2, ended.output
    return ended.output.partition("\n")[0]


def test_files_that_are_not_there_are_told(tls: dict[str, str], tmp_path: Path) -> None:
    """Which of the two, and where it is looked for."""
    what = "No such file or directory; give a PEM file that can be read; a path counts from the folder of squall.yaml"
    assert told(tmp_path, "no.pem", "key.pem") == f"serve: tls: certificate: {tmp_path}/no.pem: {what}"
    assert told(tmp_path, "cert.pem", "no.key") == f"serve: tls: key: {tmp_path}/no.key: {what}"


def test_files_that_hold_something_else_are_told(tls: dict[str, str], tmp_path: Path) -> None:
    """Each the other's, which is easily written."""
    assert told(tmp_path, "key.pem", "key.pem") == (
        f"serve: tls: certificate: {tls['key']}: there is no certificate in it; expected -----BEGIN "
        "CERTIFICATE----- and what follows it, the server's own first"
    )
    said = told(tmp_path, "cert.pem", "cert.pem")
    assert said.startswith(f"serve: tls: key: {tls['certificate']}: there is no private key in it that can be used (")
    assert said.endswith("); expected -----BEGIN PRIVATE KEY----- and what follows it")


def test_the_key_of_another_certificate_is_told(tls: dict[str, str], tmp_path: Path) -> None:
    openssl("genpkey", "-algorithm", "RSA", "-out", str(tmp_path / "other.key"))
    assert told(tmp_path, "cert.pem", "other.key") == (
        f"serve: tls: key: {tmp_path}/other.key: it is not the key of the certificate "
        f"{tls['certificate']}; give the key that the certificate was made for"
    )


def test_a_key_that_needs_a_password_is_told(tls: dict[str, str], tmp_path: Path) -> None:
    """Nobody is asked for it, with what to do instead."""
    secret = tmp_path / "secret.key"
    openssl("pkey", "-in", tls["key"], "-aes256", "-passout", "pass:secret", "-out", str(secret))
    assert told(tmp_path, "cert.pem", "secret.key") == (
        f"serve: tls: key: {secret}: it is encrypted, and nobody is asked for its password; take its "
        f"password away: openssl pkey -in {secret} -out plain.key"
    )


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
