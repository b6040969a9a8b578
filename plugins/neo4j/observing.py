"""Counts what a router does, in memory, until it is written: one entry per flow, however many events pass.

Counts are sums and never lost while the router runs. Audit rows are one by one: while the graph cannot be written,
the oldest make room for the newest, and are counted.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

import msgspec

from squall.core.delivery import ACK, Ack, Attempts, Observer, SubscriptionChange, Term
from squall.core.event import Event
from squall.core.filters import Filter
from squall.core.store import DeadLetter
from squall.core.subscription import Subscription
from squall.plugins.neo4j.batches import Kind, Row, at

OTHERS = "$others"
"""The topic, source and subscriber of what is not told apart any more: nobody's, for types that begin with $ are
squall's own."""


MAX_TOLD = 20
Flow = tuple[str, str, str]
"""Source, topic, and the address of the remote client that published; empty where none did."""


class _Publishes:
    """Events of one flow since the last time."""

    __slots__ = ("count", "first_ns", "last_ns")

    def __init__(self, first_ns: int) -> None:
        self.count = 0
        self.first_ns = self.last_ns = first_ns


class _Deliveries:
    """How deliveries of one topic to one subscription ended since the last time."""

    __slots__ = ("dead_lettered", "delivered", "failed", "first_ns", "last_ns", "subscriber")

    def __init__(self, subscriber: str, first_ns: int) -> None:
        self.subscriber = subscriber
        self.delivered = self.failed = self.dead_lettered = 0
        self.first_ns = first_ns
        self.last_ns: int | None = None


class FlowObserver(Observer):
    """Adds up publishes and deliveries, and notes what is done with subscriptions.

    A batch of events costs a look at each event's fields, and one update per flow that it has: most have one. (A list
    comprehension looks in half the time of `map` with an attrgetter.)
    """

    def __init__(self, router_id: str, time_ns: Callable[[], int], max_waiting: int, audit_window_s: float) -> None:
        self._router_id, self._time_ns = router_id, time_ns
        self._max, self._window_ns = max_waiting, round(audit_window_s * 1e9)
        self._publishes: dict[Flow, _Publishes] = {}
        self._deliveries: dict[tuple[str, str], _Deliveries] = {}
        self._changed: dict[str, Row] = {}
        self._audit: deque[Row] = deque()
        self._numbered = 0
        self._paused: set[str] = set()
        self.rows_dropped = 0

    # What the router tells

    def published(self, events: Sequence[Event]) -> None:
        if 0 in [one.published_ns for one in events]:  # of a shared store, those of other routers are announced too
            events = [one for one in events if one.published_ns]
        if not events:
            return
        sources, topics = [one.source for one in events], [one.type for one in events]
        origins = [one.origin for one in events]
        flows: Mapping[Flow, int]
        if _alike(sources) and _alike(topics) and _alike(origins):
            flows = {(sources[0], topics[0], origins[0]): len(events)}
        else:
            flows = Counter(zip(sources, topics, origins, strict=True))
        now_ns = self._time_ns()
        for flow, count in flows.items():
            found = self._publishes.get(flow)
            if found is None:
                found = self._new_publishes(flow, now_ns)
            found.count += count
            found.last_ns = now_ns

    def settled(self, subscription: Subscription, attempts: Attempts, ok_ns: int, answer: str) -> None:
        if answer != "ok" or not attempts:
            return
        counts: dict[str, int]
        if "*" in subscription.pattern or ">" in subscription.pattern:
            topics = [one.event.type for one in attempts]
            counts = {topics[0]: len(topics)} if _alike(topics) else Counter(topics)
        else:
            counts = {subscription.pattern: len(attempts)}
        now_ns = self._time_ns()
        for attempt in attempts.unusual:
            if attempt.decision is not ACK and not isinstance(attempt.decision, Ack):
                counts[attempt.event.type] -= 1
                found = self._delivery(subscription, attempt.event.type, now_ns)
                if isinstance(attempt.decision, Term):
                    found.dead_lettered += 1
                else:
                    found.failed += 1
        for topic, count in counts.items():
            if count:
                found = self._delivery(subscription, topic, now_ns)
                found.delivered += count
                found.last_ns = now_ns

    def subscription_changed(self, subscription: Subscription, change: SubscriptionChange) -> None:
        now = at(self._time_ns())
        if change == "paused":
            self._paused.add(subscription.id)
        else:
            self._paused.discard(subscription.id)
        self._note(change, now, **_about(subscription))
        self._keep(subscription, change, now)

    def gate_changed(self, subscription: Subscription, gate: str, state: str) -> None:
        """A plugin may have paused the subscription by its gate."""
        if subscription.paused and subscription.id not in self._paused:
            now = at(self._time_ns())
            self._paused.add(subscription.id)
            self._note("paused", now, **_about(subscription), detail=f"by its gate {gate}")
            self._keep(subscription, "paused", now)

    def redriven(self, subscription_id: str, letters: Sequence[DeadLetter], origin: str) -> None:
        seqs = ", ".join(str(one.event.seq) for one in letters[:MAX_TOLD]) + (", …" if len(letters) > MAX_TOLD else "")
        self._note(
            "redrove",
            at(self._time_ns()),
            subscription=subscription_id,
            name=letters[0].subscription,
            pattern=letters[0].pattern,
            detail=f"dead letters of {len(letters)} events: {seqs}",
            origin=origin or None,
        )

    def noted(self, action: str) -> None:
        """The router itself has done something."""
        self._note(action, at(self._time_ns()))

    # What is written

    def take(self) -> Iterator[tuple[Kind, Row]]:
        """The rows of all that has come since the last time: whoever takes them sees to it that they are written."""
        publishes, self._publishes = self._publishes, {}
        deliveries, self._deliveries = self._deliveries, {}
        changed, self._changed = self._changed, {}
        audit, self._audit = self._audit, deque()
        yield from (("subscriptions", row) for row in changed.values())
        # In the order of names, so that routers which write at the same time don't hold each other up.
        yield from (("publishes", self._publishes_row(*flow, publishes[flow])) for flow in sorted(publishes))
        yield from (("deliveries", _deliveries_row(*flow, deliveries[flow])) for flow in sorted(deliveries))
        yield from (("audit", row) for row in audit)

    def _publishes_row(self, source: str, topic: str, origin: str, flow: _Publishes) -> Row:
        begin_ns = flow.first_ns - flow.first_ns % self._window_ns
        return {
            "service": source,
            "topic": topic,
            "count": flow.count,
            "first": at(flow.first_ns),
            "last": at(flow.last_ns),
            "origin": origin or None,
            "audit": f"{self._router_id}/{begin_ns // 1_000_000_000}/{origin}/{source}/{topic}",
        }

    def _new_publishes(self, flow: Flow, now_ns: int) -> _Publishes:
        if len(self._publishes) >= self._max:
            flow = (OTHERS, OTHERS, "")
        return self._publishes.setdefault(flow, _Publishes(now_ns))

    def _delivery(self, subscription: Subscription, topic: str, now_ns: int) -> _Deliveries:
        flow, subscriber = (topic, subscription.id), subscription.subscriber_id
        found = self._deliveries.get(flow)
        if found is None:
            if len(self._deliveries) >= self._max:
                flow, subscriber = (OTHERS, ""), OTHERS
            found = self._deliveries.setdefault(flow, _Deliveries(subscriber, now_ns))
        return found

    def _keep(self, subscription: Subscription, change: SubscriptionChange, now: datetime) -> None:
        """Its latest state; of too many that change while nothing can be written, the first to change are dropped."""
        self._changed.pop(subscription.id, None)
        self._changed[subscription.id] = _subscription_row(subscription, change, now)
        if len(self._changed) > self._max:
            del self._changed[next(iter(self._changed))]
            self.rows_dropped += 1

    def _note(self, action: str, now: datetime, **told: str | None) -> None:
        self._numbered += 1
        if len(self._audit) >= self._max:
            self._audit.popleft()
            self.rows_dropped += 1
        row: dict[str, object] = dict.fromkeys(("subscription", "name", "pattern", "service", "detail", "origin"))
        self._audit.append(row | {"id": f"{self._router_id}/{self._numbered}", "ts": now, "action": action} | told)


def _about(subscription: Subscription) -> dict[str, str | None]:
    return {
        "subscription": subscription.id,
        "name": subscription.name,
        "pattern": subscription.pattern,
        "service": subscription.subscriber_id,
        # A handler that stands for a client elsewhere may say where that is.
        "origin": getattr(subscription.handler, "origin", None),
    }


def _alike(names: Sequence[str]) -> bool:
    """Whether there is one name, any number of times: asked first, for it is quicker than counting."""
    return names.count(names[0]) == len(names)


def _deliveries_row(topic: str, subscription_id: str, flow: _Deliveries) -> Row:
    return {
        "topic": topic,
        "service": flow.subscriber,
        "subscription": subscription_id or None,
        "delivered": flow.delivered,
        "failed": flow.failed,
        "dead_lettered": flow.dead_lettered,
        "first": at(flow.first_ns),
        "last": None if flow.last_ns is None else at(flow.last_ns),
    }


def _subscription_row(subscription: Subscription, change: SubscriptionChange, now: datetime) -> Row:
    filters = [
        one.model_dump(mode="json", exclude_none=True) if isinstance(one, Filter) else "a function"
        for one in subscription.filters
    ]
    least, exact = subscription.priority_min, subscription.priority_filter
    return {
        "id": subscription.id,
        "at": now,
        "created": subscription.created_at,
        "service": subscription.subscriber_id,
        "attached": change not in ("unsubscribed", "detached"),
        "paused": change == "paused",
        # Without a name it lives with its router, and is over when it is left.
        "ended": change == "unsubscribed" or (change == "detached" and not subscription.durable),
        "definition": {
            "name": subscription.name,
            "pattern": subscription.pattern,
            "filters": msgspec.json.encode(filters).decode(),
            "priority_min": least.name if least is not None else None,
            "priority_filter": exact.name if exact is not None else None,
            "delivery": subscription.delivery,
            "concurrency": subscription.concurrency,
        },
    }
