"""The real servers that tests run against: each answers, and none outlives its test."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import neo4j
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from tests.needed import needed
from tests.servers import HOST, DidNotStart, Server, free_port, redis_server, shared, until

ROOT = Path(__file__).resolve().parents[2]


def client(port: int) -> redis.Redis:
    """A client of the server at this port that retries nothing."""
    once = Retry(NoBackoff(), 0)
    return redis.Redis(host=HOST, port=port, protocol=3, socket_timeout=5, retry=once, decode_responses=True)


def lives(pid: int) -> bool:
    """Whether the process is there and has not ended."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_redis_answers(redis_server: Server) -> None:
    """What is set is got, from a server that writes each change to disk before it answers."""
    with client(redis_server.port) as one:
        assert one.set("key", "value")
        assert one.get("key") == "value"
        assert one.config_get("append*")["appendfsync"] == "always"


def test_redis_keeps_what_it_acknowledged_over_a_kill(redis_server: Server) -> None:
    """On the same port, with the same folder, by another process."""
    with client(redis_server.port) as one:
        one.set("key", "value")
    first = redis_server.pid
    redis_server.kill()
    assert not lives(first)
    redis_server.start()
    assert redis_server.pid != first
    with client(redis_server.port) as one:
        assert one.get("key") == "value"


def test_redis_without_its_file_forgets(redis_without_aof: Server) -> None:
    """The setup in which acknowledged writes are lost, for those who have to find that."""
    with client(redis_without_aof.port) as one:
        one.set("key", "value")
    redis_without_aof.kill()
    redis_without_aof.start()
    with client(redis_without_aof.port) as one:
        assert one.get("key") is None


async def test_server_is_killed_from_a_coroutine(redis_server: Server) -> None:
    """In a thread: the server that a thread has started outlives the thread."""
    await asyncio.to_thread(redis_server.kill)
    await asyncio.to_thread(redis_server.start)
    with client(redis_server.port) as one:
        assert one.ping()


def test_cluster_answers(redis_cluster: list[Server]) -> None:
    """Three masters that have all slots between them; keys land on each."""
    with redis.RedisCluster(host=HOST, port=redis_cluster[0].port, protocol=3, decode_responses=True) as cluster:
        keys = [f"servers-{number}" for number in range(30)]
        for key in keys:
            cluster.set(key, key)
        assert [cluster.get(key) for key in keys] == keys
        ports = {node.port for key in keys if (node := cluster.get_node_from_key(key))}
    assert ports == {server.port for server in redis_cluster}


@pytest.mark.slow
def test_neo4j_answers(neo4j_url: str) -> None:
    """Cypher over Bolt."""
    with neo4j.GraphDatabase.driver(neo4j_url) as driver:
        assert driver.execute_query("RETURN 1 AS one").records[0]["one"] == 1


def call(server: Server, method: str, path: str, body: object = None) -> bytes:
    """Toxiproxy's HTTP API."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=5)
    try:
        connection.request(method, path, json.dumps(body) if body else None)
        answer = connection.getresponse()
        assert answer.status < 300, answer.read()
        return answer.read()
    finally:
        connection.close()


def test_toxiproxy_answers(toxiproxy_server: Server, redis_server: Server) -> None:
    """It says its version, and carries a connection to a real server until it is told not to."""
    assert json.loads(call(toxiproxy_server, "GET", "/version")) == {"version": "2.12.0"}
    port = free_port()
    proxy = {"name": "redis", "listen": f"{HOST}:{port}", "upstream": f"{HOST}:{redis_server.port}", "enabled": True}
    call(toxiproxy_server, "POST", "/proxies", proxy)
    with client(port) as through:
        assert through.set("key", "value")
        call(toxiproxy_server, "POST", "/proxies/redis", {"enabled": False})
        with pytest.raises(redis.ConnectionError):
            through.get("key")
    with client(redis_server.port) as direct:
        assert direct.get("key") == "value"


@pytest.mark.parametrize(("strict", "outcome"), [("0", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_missing_server_is_told(monkeypatch: pytest.MonkeyPatch, strict: str, outcome: type[BaseException]) -> None:
    """A skip that says how to get it, and an error where nothing may be skipped."""
    monkeypatch.setenv("SQUALL_STRICT", strict)
    with pytest.raises(outcome, match=r"^no-such-server is not installed: make services$"):
        needed("no-such-server", "make services")


def test_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """With what it printed, and without waiting for it any longer."""
    with pytest.raises(DidNotStart, match=r"redis-server ended with 1\n(.|\n)*Bad directive"):
        redis_server(tmp_path, options=["--no-such-option", "1"]).start()


def test_server_is_stopped_when_its_test_fails(tmp_path: Path) -> None:
    """And so are the guard beside it, and no other."""
    with redis_server(tmp_path / "other") as other:
        pids = []

        def failing_test() -> None:
            with redis_server(tmp_path / "one") as server:
                pids.append(server.pid)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            failing_test()
        assert not lives(pids[0])
        assert lives(other.pid)


def outsider(tmp_path: Path, program: str) -> subprocess.Popen[str]:
    """Python that has started a Redis in a process of its own, and prints what the program says."""
    start = "from pathlib import Path; from tests.servers import redis_server, shared; import sys"
    command = [sys.executable, "-c", f"{start}\n{program}", str(tmp_path)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_server_does_not_outlive_tests_that_are_killed(tmp_path: Path) -> None:
    """Whoever started it had no time to stop it."""
    program = "s = redis_server(Path(sys.argv[1])); s.start(); print(s.pid, flush=True); input()"
    with outsider(tmp_path, program) as tests:
        assert tests.stdout is not None
        pid = int(tests.stdout.readline())
        assert lives(pid)
        os.kill(tests.pid, signal.SIGKILL)
        until("the server is gone", lambda: not lives(pid))


def test_what_a_server_kept_for_a_while_goes_with_whoever_is_killed(tmp_path: Path) -> None:
    """Its folder, and the one above it, as the bench makes it for a run."""
    program = "s = redis_server(Path(sys.argv[1]) / 'run' / 'redis'); s.temporary = True; s.start(); "
    with outsider(tmp_path, program + "print(s.pid, flush=True); input()") as bench:
        assert bench.stdout is not None
        pid = int(bench.stdout.readline())
        assert (tmp_path / "run" / "redis" / "users").exists()
        os.kill(bench.pid, signal.SIGKILL)
        until("the folder is gone", lambda: not (tmp_path / "run").exists())
        assert not lives(pid)


def test_server_does_not_live_on_with_what_its_user_has_forked(tmp_path: Path) -> None:
    """A handler under test may fork: what outlives the bench then is no user of its servers."""
    program = (
        "import os\ns = redis_server(Path(sys.argv[1])); s.start(); forked = os.fork()\n"
        "forked and print(s.pid, forked, flush=True)\ninput()"
    )
    with outsider(tmp_path, program) as tests:
        assert tests.stdout is not None
        pid, forked = map(int, tests.stdout.readline().split())
        try:
            os.kill(tests.pid, signal.SIGKILL)
            until("the server is gone", lambda: not lives(pid))
            assert lives(forked)
        finally:
            os.kill(forked, signal.SIGKILL)


def test_shared_server_lives_until_its_last_user_leaves(tmp_path: Path) -> None:
    """The second finds the first one's server, which goes on when the first is killed, and ends with the second."""
    program = "with shared(Path(sys.argv[1]), redis_server) as url: print(url, flush=True); input()"
    with outsider(tmp_path, program) as first:
        assert first.stdout is not None
        url = first.stdout.readline().strip()
        with shared(tmp_path, redis_server) as found:
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
            assert found == url
            port = int(url.rpartition(":")[2])
            with client(port) as one:
                assert one.ping()
        until("the server is gone", lambda: refuses(port))
    with shared(tmp_path, redis_server) as again:
        assert again != url


def refuses(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


def test_server_does_not_outlive_tests_whose_folder_is_gone(tmp_path: Path) -> None:
    """Who is gone may have taken it along, before the guard had looked: here before the guard is there. The server
    stands still meanwhile, or it might end by itself for want of its folder."""
    program = (
        "import os, shutil, signal\ns = redis_server(Path(sys.argv[1]) / 'gone'); watch = s._watch\n"
        "def late(process, users):\n"
        "    os.kill(process.pid, signal.SIGSTOP); shutil.rmtree(s.folder); watch(process, users)\n"
        "    print(process.pid, flush=True); os._exit(1)\n"
        "s._watch = late; s.start()"
    )
    with outsider(tmp_path, program) as tests:
        assert tests.stdout is not None
        pid = int(tests.stdout.readline())
        until("the server is gone", lambda: not lives(pid))
