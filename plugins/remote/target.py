"""`squall serve` as the system under test: a process of its own, and clients that reach it over the network.

One client publishes, each subscriber is a client of its own. All pass `net:serve`, a subscriber `net:serve-<name>` too.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import sys
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, cast

from squall.core.compose import as_sections, compose, keeper, located, name_of, publish_path
from squall.core.delivery import Ack, Decision, Term
from squall.core.errors import NotRunning, PublishError, SquallError
from squall.core.event import Durability, Event, EventData
from squall.core.fault import Seam
from squall.core.identity import system_id
from squall.core.plugin import Context, Plugin
from squall.core.subscription import Subscription
from squall.core.target import (
    Claims,
    Counters,
    Handle,
    Message,
    Outcome,
    Program,
    Received,
    RunContext,
    Settlement,
    Sink,
    SubscriberCounts,
    SubscriberSpec,
    Terminal,
)
from squall.core.wiring import Registry
from squall.plugins.remote import connect

if TYPE_CHECKING:
    from squall.plugins.remote.client import RemoteRouter
    from squall.plugins.remote.handling import Failed

TOKEN = "SQUALL_BENCH_TOKEN"
OWN = ("host", "port", "token", "tls")
"""Options of serve that are the run's: it listens on loopback, for the bench alone."""
LEASE_S, HEARTBEAT_S, DEADLINE_S = 30.0, 2.0, 20.0
RECONNECT_S = 10.0
CONFIRM_S = 0.02
ANSWER_S = 5.0
STOP_S = 1.0  # the run has drained already: what is left would not end by waiting


class ServedTarget:
    """A child `squall serve`, made of the operator's plugins and the scenario's over them."""

    def __init__(self) -> None:
        self.claims = Claims(lease_s=LEASE_S)
        self._clients: dict[str, _Client] = {}
        self._token = system_id()
        self._described = ""

    async def start(self, ctx: RunContext) -> None:
        """Raises ConfigError, WiringError, or SquallError where the child does not start."""
        self._ctx = ctx
        plugins = await located(compose(ctx.config.plugins, ctx.plugins, ctx.folder.resolve()), ctx)
        self._launched = await ctx.launch(self._program(plugins))
        self._address = await ctx.detour("serve", self._launched.host, self._launched.port)
        for name in ctx.subscribers:  # who joins later too: its seam is there before the faults are
            await ctx.detour(f"serve-{name}", *self._address)
        self._remote = self._connect(*self._address)
        await self._remote.start()
        self._publisher = self._remote.publisher("bench")
        status = await self._ask("/v1/status")
        durability = cast("Durability", status["durability"])
        self.claims = replace(
            self.claims,
            durability=durability,
            kept_by=keeper(plugins) or "serve",
            publish_path=("net:serve", "process:serve", *publish_path(plugins)),
            max_events=status["max_events"],
        )
        router = [plugin for plugin in plugins if name_of(plugin) != "serve"]
        random = Random(0)
        wiring = Context(ctx.clock, lambda name: random, logging.getLogger("squall"), lambda *change: None)
        self._registry = Registry(router), wiring
        names = " · ".join(map(name_of, router))
        self._described = f"squall serve (pid {self._launched.process.pid}) · {self.claims.durability} · {names}"

    def _program(self, plugins: Sequence[Plugin]) -> Program:
        """The child: its squall.yaml is in the run's folder, the secrets in its environment alone."""
        environment = {TOKEN: self._token}
        sections = {name: data for section in as_sections(plugins, environment) for name, data in section.items()}
        told = cast("dict[str, object]", sections.get("serve") or {})
        serve = {name: value for name, value in told.items() if name not in OWN} | {"token": f"env:{TOKEN}"}
        listed = [{name: data} for name, data in sections.items() if name != "serve"]
        path = self._ctx.folder.resolve() / "serve.yaml"
        backlog = self._ctx.config.backlog.model_dump(mode="json", exclude_unset=True)
        text = json.dumps({"version": 1, "plugins": [*listed, {"serve": serve}], "backlog": backlog}, indent=2)
        path.write_text(text + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "squall", "serve", "--config", str(path), "--port"]
        return Program("serve", lambda port: [*command, str(port)], self._ready, environment)

    def _ready(self, port: int) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return _get("127.0.0.1", port, "/readyz", self._token, 1.0)[0] == http.HTTPStatus.OK
        return False

    def _connect(self, host: str, port: int) -> RemoteRouter:
        return connect(
            f"http://{host}:{port}",
            token=self._token,
            deadline_s=DEADLINE_S,
            heartbeat_s=HEARTBEAT_S,
            lease_s=LEASE_S,
            clock=self._ctx.clock,
            seed=self._ctx.random.getrandbits(63),
        )

    def endpoint(self) -> tuple[str, str]:
        host, port = self._address
        return f"http://{host}:{port}", self._token

    async def publish(self, message: Message) -> Outcome:
        try:
            receipt = await self._publisher.publish_with_receipt(
                message.type, message.payload, message.priority, key=message.key
            )
        except PublishError as error:
            return Outcome(error.outcome, why=str(error))
        except NotRunning as error:
            return Outcome("fail", why=str(error))
        return Outcome("ok", receipt.seq or None, duplicate=receipt.duplicate)

    async def publish_batch(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        events = [EventData(one.type, one.payload, one.priority, key=one.key) for one in messages]
        try:
            receipts = await self._publisher.publish_batch_with_receipts(events)
            return [Outcome("ok", receipt.seq or None, duplicate=receipt.duplicate) for receipt in receipts]
        except PublishError as error:
            outcome = Outcome(error.outcome, why=str(error))
        except NotRunning as error:
            outcome = Outcome("fail", why=str(error))
        return [outcome] * len(messages)

    async def subscribe(self, spec: SubscriberSpec, sink: Sink) -> Handle:
        address = await self._ctx.detour(f"serve-{spec.name}", *self._address)
        client = self._clients[spec.name] = _Client(self._connect(*address), spec, sink)
        subscription = await client.start()
        self._claim(subscription)
        return Handle(subscription.id, subscription.from_seq)

    def _claim(self, subscription: Subscription) -> None:
        """What may legally pass until a delivery is made again: its backoff and gates, and a connection made anew."""
        registry, wiring = self._registry
        policy, gate = registry.settle_policy(wiring, subscription), registry.gate(wiring, subscription)
        wait_s = subscription.timeout_s + (policy.longest_delay_s if policy else 0.0) + RECONNECT_S
        longest_s = max(self.claims.longest_delay_s, wait_s + (gate.longest_wait_s if gate else 0.0))
        self.claims = replace(self.claims, longest_delay_s=longest_s)

    async def unsubscribe(self, handle: Handle) -> int | None:
        name = next(name for name, client in self._clients.items() if client.id == handle.id)
        to_seq: int = (await self._ask("/v1/status"))["next_seq"]
        await self._clients[name].leave()
        return to_seq

    async def counters(self) -> Counters:
        """By the server's own word; none while it does not answer, or has no connection to a subscriber."""
        try:
            status = await self._ask("/v1/status")
        except SquallError:
            status = {"events": None, "subscriptions": []}
        pending = {one["subscriber"]: one["pending"] for one in status["subscriptions"]}
        sums = {
            name: SubscriberCounts(None, None, None, None, None, 0 if client.left else pending.get(name))
            for name, client in self._clients.items()
        }
        return Counters(status["events"], sums)

    async def terminals(self) -> Sequence[Terminal]:
        letters: list[Terminal] = []
        while page := (await self._ask(f"/v1/dead-letters?after={len(letters)}"))["dead_letters"]:
            letters += [
                Terminal(b64decode(one["payload_base64"]), one["subscription"], "dead_lettered", "dead letters")
                for one in page
            ]
        return letters

    async def _ask(self, path: str) -> Any:
        """Straight, past all faults in the network. Raises SquallError."""
        host, port = self._launched.host, self._launched.port
        try:
            code, body = await asyncio.to_thread(_get, host, port, path, self._token, ANSWER_S)
        except (OSError, http.client.HTTPException) as error:
            raise SquallError(f"squall serve at {host}:{port} does not answer {path}: {error!r}") from error
        if code != http.HTTPStatus.OK:
            said = body[:200].decode(errors="replace")
            raise SquallError(f"squall serve at {host}:{port} answered {path} with {code}: {said}")
        return json.loads(body)

    def seams(self) -> Mapping[str, Seam]:
        return {}

    async def describe(self) -> str:
        return self._described

    async def stop(self) -> None:
        for client in self._clients.values():
            await client.stop()
        if hasattr(self, "_remote"):
            await self._remote.stop(timeout_s=STOP_S)


class _Client:
    """A subscriber with a connection of its own, and what it tells the recorder."""

    def __init__(self, remote: RemoteRouter, spec: SubscriberSpec, sink: Sink) -> None:
        self._remote, self._spec, self._sink = remote, spec, sink
        self._now = remote.clock.monotonic_ns
        self._unconfirmed: list[bytes] = []
        self._confirming: asyncio.Task[None] | None = None
        self._stopping = False
        self.id = ""
        self.left = False

    async def start(self) -> Subscription:
        remote, spec = self._remote, self._spec
        await remote.start()
        first = spec.delivery == "at-most-once"
        if not first:
            remote.on_end = self._ended
            self._confirming = asyncio.create_task(self._confirm())
        handler = self._handle_settled if first else self._handle
        self.id = await spec.subscribe(remote.subscriber(spec.name), handler)
        return remote.attachments.get(self.id).subscription

    async def _handle(self, event: Event) -> None:
        await self._sink.deliver(Received(event.payload, event.seq, event.key, event.priority, type=event.type))

    async def _handle_settled(self, event: Event) -> None:
        """At most once: the server has settled it before it sent it."""
        now, payloads = self._now(), [event.payload]
        self._sink.settling(payloads, "ack", now)
        self._sink.settled(payloads, now)
        try:
            await self._handle(event)
        finally:
            self._sink.settled(payloads, self._now())

    def _ended(self, event: Event, how: Decision | Failed, told: bool) -> None:
        payloads = [event.payload]
        if not told:
            self._sink.settled(payloads, self._now(), "lost")  # its result is dropped, and it is delivered again
            return
        settlement: Settlement = "ack" if isinstance(how, Ack) else "term" if isinstance(how, Term) else "nak"
        self._sink.settling(payloads, settlement, self._now())
        self._unconfirmed.append(event.payload)

    async def _confirm(self) -> None:
        """A settlement has no answer of its own; but a ping has one, when the store has what was settled before it.
        What was on its way when the connection was lost, or not stored yet, may count or not."""
        while self._unconfirmed or not self._stopping:
            await self._remote.clock.sleep(CONFIRM_S)
            if self._unconfirmed:
                payloads, self._unconfirmed = self._unconfirmed, []
                stored = await self._remote.flush(stored=True)
                self._sink.settled(payloads, self._now(), "ok" if stored else "lost")

    async def leave(self) -> None:
        await self._remote.subscriber(self._spec.name).unsubscribe(self.id)
        self.left = True

    async def stop(self) -> None:
        self._stopping = True
        if self._confirming is not None:
            await asyncio.wait([self._confirming], timeout=STOP_S)  # what was settled last is confirmed too
            self._confirming.cancel()
            await asyncio.gather(self._confirming, return_exceptions=True)
        await self._remote.stop(timeout_s=STOP_S)


def _get(host: str, port: int, path: str, token: str, timeout_s: float) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, answer.read()
