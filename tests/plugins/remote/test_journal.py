"""A buffer on disk: what one process could not send, the next one does, once and in its order."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import apsw
import pytest
from tests.core.world import KeptMemory, Log, ManualStore
from tests.plugins.remote.proxied import network
from tests.plugins.serve.served import Served, until

import squall
from squall import PublishError, StoreError, StoreFileError

pytestmark = pytest.mark.slow  # each has a server and connections to it

PUBLISHES = """\
import asyncio, sys
import squall

async def main(url, path):
    async with squall.connect(url, buffer_path=path) as remote:
        print("connected", flush=True)
        while remote.connected:
            await asyncio.sleep(0.01)
        publishing = [asyncio.ensure_future(remote.publisher("shop").publish("a", n)) for n in range(20)]
        publishing.append(asyncio.ensure_future(remote.publisher("shop").publish_batch([squall.EventData("b", 1)] * 3)))
        await asyncio.sleep(0)
        print("waiting", flush=True)
        await asyncio.gather(*publishing)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_what_a_killed_process_could_not_send_the_next_one_sends(tmp_path: Path) -> None:
    """kill -9 while the publishes wait for a connection; then once, in order, and the buffer is empty."""
    async with network() as net:
        command = (sys.executable, "-c", PUBLISHES, net.url, str(tmp_path / "buffer.db"))
        child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert child.stdout is not None
        assert await child.stdout.readline() == b"connected\n"
        await net.cut()
        assert await child.stdout.readline() == b"waiting\n"
        child.kill()
        await child.wait()
        await net.mend()
        for _ in range(2):  # the second time there is nothing left
            async with squall.connect(net.url, buffer_path=tmp_path / "buffer.db") as remote:
                last = await remote.publisher("shop").publish("last", b"")
                stored = [(event.type, event.payload) async for event in net.served.router.replay()]
                assert (await net.stored())[-1] == last
        sent = [("a", str(n).encode()) for n in range(20)] + [("b", b"1")] * 3
        assert stored == [*sent, ("last", b""), ("last", b"")]


async def test_a_stop_leaves_what_waits_in_the_buffer_and_says_that_it_is_not_known(tmp_path: Path) -> None:
    """It will be stored: `fail` would be wrong."""
    async with network() as net:
        remote = squall.connect(net.url, buffer_path=tmp_path / "buffer.db")
        await remote.start()
        await net.cut()
        await until(lambda: not remote.connected)
        publishing = asyncio.ensure_future(remote.publisher("shop").publish("a", b""))
        await asyncio.sleep(0)
        await remote.stop(timeout_s=0)
        with pytest.raises(PublishError, match="the next process sends it") as caught:
            await publishing
        assert caught.value.outcome == "info"
        await net.mend()
        async with squall.connect(net.url, buffer_path=tmp_path / "buffer.db"):
            await until(lambda: net.served.router.get_metrics().published == 1)


async def test_what_failed_at_its_deadline_is_not_in_the_buffer_any_more(tmp_path: Path) -> None:
    """Its caller was told that it is not stored."""
    async with network() as net:
        async with squall.connect(net.url, buffer_path=tmp_path / "buffer.db", deadline_s=1.5) as remote:
            await net.cut()
            await until(lambda: not remote.connected)
            with pytest.raises(PublishError) as caught:
                await remote.publisher("shop").publish("a", b"")
            assert caught.value.outcome == "fail"
        await net.mend()
        async with squall.connect(net.url, buffer_path=tmp_path / "buffer.db") as remote:
            kept = await remote.publisher("shop").publish("b", b"")
            assert await net.stored() == [kept]


async def test_what_failed_behind_what_still_waits_is_not_in_the_buffer_any_more(tmp_path: Path) -> None:
    """Each has a deadline of its own; the place in the buffer is no matter, nor is it taken up any more."""
    async with network() as net:
        buffer = squall.connect(net.url, buffer_path=tmp_path / "buffer.db", deadline_s=60, buffer_events=2)
        await buffer.start()
        await net.cut()
        await until(lambda: not buffer.connected)
        publisher = buffer.publisher("shop")
        patient = asyncio.ensure_future(publisher.publish("first", b""))
        await asyncio.sleep(0)
        for _ in range(3):
            with pytest.raises(PublishError) as caught:
                await asyncio.to_thread(publisher.publish_sync, "told.fail", b"", timeout_s=0.2)
            assert caught.value.outcome == "fail"
        await buffer.stop(timeout_s=0)
        with pytest.raises(PublishError) as caught:
            await patient
        assert caught.value.outcome == "info"
        await net.mend()
        async with squall.connect(net.url, buffer_path=tmp_path / "buffer.db") as remote:
            await remote.publisher("shop").publish("last", b"")
            types = [event.type async for event in net.served.router.replay()]
            assert types == ["first", "last"]


async def test_what_may_have_been_stored_is_sent_again_only_within_the_servers_window(tmp_path: Path) -> None:
    """Else it is told, in the log: its caller is gone. The buffer says when it was sent."""
    log, held = Log(), KeptMemory(ManualStore)
    async with network(held) as net:
        store = held.store
        remote = squall.connect(net.url, buffer_path=tmp_path / "buffer.db")
        await remote.start()
        publishing = asyncio.ensure_future(remote.publisher("shop").publish("a", b""))
        await until(lambda: bool(store.waiting))
        await net.cut()
        await until(lambda: not remote.connected)
        await remote.stop(timeout_s=0)
        await asyncio.gather(publishing, return_exceptions=True)
        store.commit_all()
        store.auto = True
        with apsw.Connection(str(tmp_path / "buffer.db")) as file:
            assert file.execute("SELECT count(*) FROM publish WHERE sent_ns > 0").fetchone() == (1,)
            file.execute("UPDATE publish SET sent_ns = sent_ns - 61000000000")
        file.close()
        await net.mend()
        async with squall.connect(net.url, buffer_path=tmp_path / "buffer.db", logger=log.logger):
            await until(lambda: "for an earlier process: sent on a connection that was lost" in log.text)
        assert len(await net.stored()) == 1


async def test_one_process_at_a_time_has_the_buffer(tmp_path: Path) -> None:
    """And it is squall's, or it is refused."""
    foreign, path = tmp_path / "foreign.db", tmp_path / "buffer.db"
    apsw.Connection(str(foreign)).execute("CREATE TABLE a(b)")
    async with Served() as served:
        async with squall.connect(served.server.url, buffer_path=path):
            with pytest.raises(StoreFileError, match="another process uses"):
                async with squall.connect(served.server.url, buffer_path=path):
                    pass
        for wrong in (foreign, tmp_path / "nowhere" / "buffer.db"):
            with pytest.raises(StoreFileError, match=wrong.name):
                async with squall.connect(served.server.url, buffer_path=wrong):
                    pass


async def test_a_buffer_that_cannot_be_written_refuses_publishes_while_there_is_no_connection(tmp_path: Path) -> None:
    """Surely not stored; once there is a connection none is needed."""
    async with network() as net, squall.connect(net.url, buffer_path=tmp_path / "buffer.db") as remote:
        await net.cut()
        await until(lambda: not remote.connected)
        assert remote._outbox is not None
        assert remote._outbox._journal is not None
        remote._outbox._journal._file.execute("PRAGMA query_only=1")
        with pytest.raises(StoreError, match="cannot be written") as caught:
            await remote.publisher("shop").publish("a", b"")
        assert caught.value.outcome == "fail"
        await net.mend()
        await until(lambda: remote.connected)
        kept = await remote.publisher("shop").publish("b", b"")
        assert await net.stored() == [kept]
