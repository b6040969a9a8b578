"""Frames that are nearly right: whatever comes, the server answers or closes, logs no error, and serves the next."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from random import Random

import pytest
from tests.needed import fuzzing_s
from tests.plugins.serve.children import client_of, one_event, resident_bytes, serving
from tests.plugins.serve.served import Client, Served
from websockets.exceptions import ConnectionClosed

from squall.protos import wire_pb2 as pb

FRAMES = 600
SEEDS = 5
MAX_GROWTH_BYTES = 64_000_000
CONFIG = "version: 1\nplugins:\n  - memory\n  - serve: {port: 0, token: 'env:BUS_TOKEN', drain: 1s}\n"


def right(random: Random, subs: list[int]) -> pb.ClientFrame:
    """A frame that could be right; subs are the numbers in use, and grow."""
    small = random.randrange(4)
    sub = random.choice(subs or [1])
    event = pb.Event(type=random.choice(["a", "a.b", ""]), source="s", payload=b"x", metadata=b"{}")
    event.key = random.choice(["", "k"])
    subscribe = pb.Subscribe(
        sub=len(subs) + 1, subscriber_id="s", pattern=random.choice([">", "a.*", "*.>"]),
        credit=random.choice([0, 5, 2**32 - 1]),
        in_flight=random.choice([0, 1, 1000, 2**32 - 1]), lease_ms=random.choice([0, 1, -1, 2**62]),
        name=random.choice(["n", "m"]), at_most_once=random.random() < 0.3, take_over=random.random() < 0.5,
        filters=random.choice([b"", b"[]", b"[{}]", b"{", b'[{"type": 5}]']),
        overflow=random.choice(["", "block", "?"]),
    )  # fmt: skip
    if random.random() < 0.2:
        subs.append(subscribe.sub)
        return pb.ClientFrame(subscribe=subscribe)
    return random.choice(
        [
            pb.ClientFrame(
                publish=pb.Publish(
                    request=random.getrandbits(64),
                    events=[pb.Outgoing(event=event, delay_ms=random.choice([0, -5, 2**62]))] * small,
                    atomic=small > 2,
                )
            ),
            pb.ClientFrame(credit=pb.Credit(sub=sub, more=random.getrandbits(32))),
            pb.ClientFrame(
                settle=pb.Settle(
                    sub=sub,
                    ack=[random.randrange(5)] * small,
                    nak=[pb.Nak(delivery=1, delay_ms=random.choice([0, -1, 2**62]), error_type="é" * small)],
                    term=[pb.Term(delivery=2, reason="r" * 10_000)],
                    in_progress=[random.getrandbits(2)] * (small > 2),
                    expired=[random.getrandbits(3)] * (small > 2),
                )
            ),
            pb.ClientFrame(leave=pb.Leave(sub=sub, end=small > 1)),
            pb.ClientFrame(ping=pb.Ping(number=random.getrandbits(64))),
        ]
    )


def spoilt(data: bytes, random: Random) -> bytes:
    """Some of it changed, cut or doubled, or nothing."""
    changed = bytearray(data)
    for _ in range(random.choice([0, 0, 0, 1, 2])):
        if changed:
            changed[random.randrange(len(changed))] = random.randrange(256)
    end = random.choice([len(changed)] * 5 + [random.randrange(len(changed) + 1)])
    return bytes(changed[:end]) * random.choice([1, 1, 1, 2])


async def torment(client: Client, random: Random, left: int) -> int:
    """Send frames until the server closes; returns how many are left."""

    subs: list[int] = []
    with contextlib.suppress(ConnectionClosed):
        while left:
            left -= 1
            await client.socket.send(spoilt(right(random, subs).SerializeToString(), random))
            await client.send(ping=pb.Ping(number=left))  # obeyed when the frame before it was
            while (await client.next()).pong.number != left:
                pass
    return left


async def torments(line: str, random: Random) -> int:
    """FRAMES frames, or as many more as a seed's share of the time for fuzzing lets, on as many connections as that
    takes; returns how many."""
    loop = asyncio.get_running_loop()
    until, sent = loop.time() + fuzzing_s() / SEEDS, 0
    while not sent or loop.time() < until:
        left = FRAMES
        while left:
            async with client_of(line) as client:
                left = await torment(client, random, left)
        sent += FRAMES
    return sent


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
async def test_frames_that_are_nearly_right_hurt_nobody(seed: int, tmp_path: Path) -> None:
    """A healthy client publishes and subscribes all the while and afterwards, the server's memory is bounded, and
    nothing was logged as an error."""
    (tmp_path / "squall.yaml").write_text(CONFIG, encoding="utf-8")
    log = tmp_path / "serve.log"
    with log.open("wb") as file:
        async with serving(tmp_path, log=file) as (server, line), client_of(line) as client:
            before = resident_bytes(server.pid)
            tormenting = asyncio.create_task(torments(line, Random(seed)))
            sub = await client.subscribe("healthy.>", credit=1_000_000)
            while not tormenting.done():
                await one_event(client, sub)
                await asyncio.sleep(0.05)
            sys.stdout.write(f"{await tormenting} frames\n")
            await one_event(client, sub)
            assert resident_bytes(server.pid) - before < MAX_GROWTH_BYTES
            server.terminate()
            assert await server.wait() == 0
    text = log.read_text(encoding="utf-8")
    assert "ERROR" not in text, text
    assert "Traceback" not in text, text


@pytest.mark.parametrize("depth", [50, 5_000])
async def test_filters_nested_deeply_are_refused_or_taken(depth: int) -> None:
    """They cost no more than their size."""
    async with Served() as served, served.client() as client:
        filters = b'[{"not":' * 1 + b'{"not":' * depth + b"{}" + b"}" * depth + b"}]"
        await client.send(subscribe=pb.Subscribe(sub=1, subscriber_id="s", pattern=">", filters=filters))
        assert (await client.next()).WhichOneof("frame") in ("failure", "subscribed")
        await client.synced()
