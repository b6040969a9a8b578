"""What becomes of a question to a server that does not answer as one does: what is certain, and what nobody knows."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest
from tests.plugins.serve.served import Served

from squall import ConfigError
from squall.core.errors import SquallError
from squall.core.redrive import DeadLetterQuery
from squall.plugins.serve.asking import NotThere, Server, Unanswered
from squall.plugins.serve.letters import Redrive

ANYTHING = DeadLetterQuery()


async def asked(answer: bytes, question: Callable[[Server], object]) -> None:
    """Ask somebody who says this to whatever is asked, and hangs up."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length is not None
        await reader.readexactly(int(length[1]))  # what is left unread would take the answer with it
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as other:
        server = Server(f"http://127.0.0.1:{other.sockets[0].getsockname()[1]}", None, 5.0)
        await asyncio.to_thread(question, server)


def http(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body)


@pytest.mark.parametrize(
    ("answer", "kind", "expected"),
    [
        (b"", Unanswered, "does not answer"),
        (b"no http\r\n\r\n", Unanswered, "does not answer"),
        (http(200, b"{}")[:-1], Unanswered, "does not answer"),
        (http(502, b"<html>"), Unanswered, "answers 502"),
        (http(503, b'{"title": "StoreError", "detail": "lost", "outcome": "info"}'), Unanswered, "lost"),
        (http(503, b'{"title": "NotRunning", "detail": "it stops", "outcome": "fail"}'), SquallError, "it stops"),
        (http(200, b"<html>"), ConfigError, "not as a squall serve does"),
        (http(404, b"<html>"), ConfigError, "answers 404"),
    ],
)
async def test_a_lost_answer_leaves_it_unknown(answer: bytes, kind: type[Exception], expected: str) -> None:
    """Whatever may have been done is never told as not done."""
    with pytest.raises(kind, match=expected) as raised:
        await asked(answer, lambda server: server.redrive(Redrive(token="x")))
    assert type(raised.value) is kind


async def test_who_was_never_reached_has_done_nothing() -> None:
    """The port is nobody's."""
    async with Served() as served:
        server = Server(f"http://127.0.0.1:{served.port}", None, 5.0)
        assert (await asyncio.to_thread(server.letters, ANYTHING)).dead_letters == []
    with pytest.raises(SquallError, match="is it running there") as raised:
        await asyncio.to_thread(server.letters, ANYTHING)
    assert type(raised.value) is NotThere
