"""What is done while events pass: decide, put the trace into metadata, note. Everything else happens afterwards."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from itertools import count

from squall.core.clock import Clock
from squall.core.delivery import Attempt, Attempts, Nak, Observer, SubscriptionChange, Term
from squall.core.event import Event
from squall.core.fault import watcher
from squall.core.identity import NewId
from squall.core.middleware import Guard
from squall.core.store import DeadLetter, Repeated
from squall.core.subscription import Subscription
from squall.plugins.tracing.context import TRACEPARENT, TRACESTATE, TraceContext, forget, read, span_of, trace_of
from squall.plugins.tracing.options import TracingOptions
from squall.plugins.tracing.records import Delivered, Hit, LetGo, Published, Receiver, Record, Redrove, Try
from squall.plugins.tracing.sampling import ALWAYS, Sampler
from squall.plugins.tracing.slowest import Slowest

WAKE_AT = 2048
NOT_STORED_NS = 60_000_000_000
MAX_RETRYING = 10_000
MAX_SUBSCRIPTIONS = 10_000
_SAMPLED_ENDS = frozenset("13579bdf")

current: ContextVar[tuple[Event | None, Deliveries] | None] = ContextVar("delivery", default=None)
"""The traced event whose handler runs here, None where it is not traced, and whose delivery it is."""


def _any_before(attempts: Attempts, time_ns: int) -> bool:
    """Whether one of their events was published before. Nothing is quicker: min() of an attrgetter takes four times as
    long."""
    for attempt in attempts:  # noqa: SIM110
        if attempt.event.published_ns < time_ns:
            return True
    return False


def is_sampled(event: Event) -> bool:
    """Whether the event's own metadata says that it is traced."""
    found = event.metadata.get(TRACEPARENT)
    return isinstance(found, str) and found[-1:] in _SAMPLED_ENDS


class Tracer(Observer):
    """One router's. `records` is what spans are to be made of; more than options.max_waiting are dropped, and counted.
    `wake` is called when there are many."""

    def __init__(self, options: TracingOptions, clock: Clock, new_id: NewId) -> None:
        self.options, self.now_ns, self._new_id = options, clock.monotonic_ns, new_id
        self.records: deque[Record] = deque()
        self.watch = self._hit  # one object, to be compared
        self.records_dropped = 0
        self.wake: Callable[[], object] = lambda: None
        self.waiting: dict[str, Published] = {}
        self.next_seq: Callable[[], int] = lambda: 0
        self._sampler = Sampler(options.sample)
        self._deliveries: dict[str, Deliveries] = {}
        self._spans = count(int(trace_of(new_id())[16:], 16))
        self._window_ns = round(options.window * 1e9)
        self._window_ends_ns = self.now_ns() + self._window_ns

    # Publishes

    def guard(self) -> Guard:
        """What each event passes when it is published. Most are not sampled, and cost three questions."""
        last, delivering = self._sampler.last, current.get
        all_of_them = last == ALWAYS

        def check(event: Event) -> None:
            if event.metadata and TRACEPARENT in event.metadata:
                self._continue(event)
                return
            delivery = delivering()
            if delivery is None:
                if event.id[-3:] <= last:
                    self._choose(event)
            elif (handled := delivery[0]) is not None:
                self._follow(event, handled, delivery[1])
            elif all_of_them:
                self._choose(event)

        return check

    def _choose(self, event: Event) -> None:
        """An event that nothing traced led to begins a trace, if its id is taken."""
        event_id = event.id
        if self._sampler.takes(event_id):
            trace = trace_of(event_id)
            self._begin(event, TraceContext(trace, trace[16:]), None)

    def _continue(self, event: Event) -> None:
        """Its publisher brought a trace along: whether it is sampled was decided there."""
        found = read(event.metadata)
        if found is None:
            forget(event.metadata)
            self._choose(event)
        elif found.span == (own := span_of(event.id)):  # it came by before: it is not its own parent
            if event.id not in self.waiting:
                self._begin(event, found, None)
        elif found.sampled:
            self._begin(event, TraceContext(found.trace, own), found.span)

    def _follow(self, event: Event, handled: Event, deliveries: Deliveries) -> None:
        """What a handler publishes follows from what it handles, and is sampled as that is."""
        found = read(handled.metadata)
        if found is None:
            return
        if TRACESTATE in handled.metadata:
            event.metadata[TRACESTATE] = handled.metadata[TRACESTATE]
        if found.sampled:
            self._begin(event, TraceContext(found.trace, span_of(event.id)), deliveries.span_of(handled))
        else:
            event.metadata[TRACEPARENT] = handled.metadata[TRACEPARENT]

    def _begin(self, event: Event, context: TraceContext, parent: str | None) -> None:
        event.metadata[TRACEPARENT] = context.header()
        if (before := self.waiting.pop(event.id, None)) is not None and before.ended_ns:
            self.keep(before)  # refused, and published anew
        if len(self.waiting) >= self.options.max_waiting:
            self.records_dropped += 1
            return
        self.waiting[event.id] = Published(event, context, parent)
        if watcher.get() is not self.watch:
            watcher.set(self.watch)

    def _hit(self, events: Sequence[Event], fault: str, seam: str) -> None:
        """A fault has acted on a publish, or on a delivery here."""
        hit, delivery = Hit(self.now_ns(), fault, seam), current.get()
        for event in events:
            if (record := self.waiting.get(event.id)) is not None:
                record.hits = [*(record.hits or ()), hit]
            elif event.seq and delivery is not None:
                delivery[1].hits.setdefault(event.seq, []).append(hit)

    def stored(self, records: Sequence[Published], begun_ns: int, error: BaseException | None) -> None:
        """The store has answered for these. What it refused may be given to it again, and waits for that."""
        now_ns, again = self.now_ns(), error.seqs if isinstance(error, Repeated) else None
        for record in records:
            if again is not None and record.event.id not in again:
                self.waiting[record.event.id] = record  # the kernel appends it at once, without the others
                continue
            if record.ended_ns:
                record.tries = [*record.tries, Try(record.begun_ns, record.ended_ns, record.error)]
            record.begun_ns, record.ended_ns, record.batch = begun_ns, now_ns, len(records)
            record.repeated = again is not None
            record.error = None if record.repeated else error
            if record.refused and 2 * len(self.waiting) < self.options.max_waiting:
                self.waiting[record.event.id] = record
            else:
                self.keep(record)

    # Deliveries

    def deliveries(self, subscription: Subscription) -> Deliveries:
        """Those of this subscription."""
        found = self._deliveries.get(subscription.id)
        if found is None:
            if len(self._deliveries) >= MAX_SUBSCRIPTIONS:
                self._deliveries.pop(next(iter(self._deliveries))).finish()
            found = self._deliveries[subscription.id] = Deliveries(self, subscription)
        return found

    def attempted(self, subscription: Subscription, attempts: Attempts, settle_invoked_ns: int) -> None:
        self.deliveries(subscription).attempted(attempts, settle_invoked_ns)

    def settled(self, subscription: Subscription, attempts: Attempts, ok_ns: int, answer: str) -> None:
        own = self.deliveries(subscription)
        if own.unsettled:
            own.settled(attempts, ok_ns, answer)

    def dropped(self, event: Event, subscription_id: str | None, why: str) -> None:
        if is_sampled(event):
            own = self._deliveries.get(subscription_id or "")
            self.keep(LetGo(event, None if own is None else own.receiver, self.new_span(), self.now_ns(), why))

    def redriven(self, subscription_id: str, letters: Sequence[DeadLetter], origin: str) -> None:
        own = self._deliveries.get(subscription_id)
        for letter in letters:
            event, span = letter.event, self.new_span()
            if own is not None:
                own.redriven[event.seq] = span
                receiver = own.receiver
            else:
                receiver = Receiver(subscription_id, letter.subscription, "", letter.pattern)
            if is_sampled(event) or "retried" in self.options.keep:
                why = None if is_sampled(event) else "retried"
                self.keep(Redrove(event, receiver, span, self.now_ns(), origin, why))

    def subscription_changed(self, subscription: Subscription, change: SubscriptionChange) -> None:
        if change in ("unsubscribed", "detached") and (gone := self._deliveries.pop(subscription.id, None)):
            gone.finish()

    # What goes on

    def new_span(self) -> str:
        """The name of a span that nobody has asked for before."""
        return f"{next(self._spans) & 0xFFFFFFFFFFFFFFFF:016x}"

    def here(self) -> tuple[TraceContext, str | None]:
        """A new span for what is done here besides events, and the span that it is done in: a handler's, or none."""
        delivery = current.get()
        handled = delivery[0] if delivery is not None else None
        around = read(handled.metadata) if handled is not None else None
        if delivery is None or handled is None or around is None or not around.sampled:
            return TraceContext(trace_of(self._new_id()), self.new_span()), None
        return TraceContext(around.trace, self.new_span()), delivery[1].span_of(handled)

    def keep(self, record: Record) -> None:
        """Hand a record on, to be made into spans."""
        if len(self.records) >= self.options.max_waiting:
            self.records_dropped += 1
            return
        self.records.append(record)
        if len(self.records) == WAKE_AT:
            self.wake()

    def tick(self, *, over: bool = False) -> None:
        """Every now and then: decide about the slowest, and about what the store never took. `over`: all of it."""
        now_ns = self.now_ns()
        while self.waiting:
            event_id, record = next(iter(self.waiting.items()))
            if not over and now_ns - (record.ended_ns or record.event.published_ns) < NOT_STORED_NS:
                break
            del self.waiting[event_id]
            self.keep(record)
        if over or now_ns >= self._window_ends_ns:
            self._window_ends_ns = now_ns + self._window_ns
            for own in self._deliveries.values():
                own.decide()
        if over:
            for own in self._deliveries.values():
                own.finish()


class Deliveries:
    """Deliveries of one subscription: the contexts of its handlers, and which of its attempts are kept.

    `unsettled`: kept attempts whose settlement the store has not answered, by the attempt's identity. `redriven`: the
    redrives that gave events back which were not attempted since, by their seqs.
    """

    def __init__(self, tracer: Tracer, subscription: Subscription) -> None:
        self._tracer = tracer
        self.receiver = Receiver(subscription.id, subscription.label, subscription.subscriber_id, subscription.pattern)
        self.unsettled: dict[int, Delivered] = {}
        self._first_seq = tracer.next_seq()
        self._reasons = frozenset(tracer.options.keep)
        self._slowest: Slowest[Delivered] | None = None
        if "slowest" in self._reasons:
            self._slowest = Slowest(tracer.options.slowest)
        self._named: dict[int, str] = {}
        self._before: dict[int, str] = {}
        self.redriven: dict[int, str] = {}
        self.hits: dict[int, list[Hit]] = {}
        self._traced = 0
        self._batch = Attempts()
        self._kept: list[Delivered] = []

    def guard(self) -> Guard:
        """What each event passes before its handler: says in the handler's context what is handled. A worker's context
        lasts longer than its deliveries: what one has set, the next must set anew."""
        running, untraced = current.get, (None, self)

        def check(event: Event) -> None:
            if event.metadata and TRACEPARENT in event.metadata:
                self._traced += 1
                current.set((event, self))
                watcher.set(self._tracer.watch)
            elif running() is not untraced:
                current.set(untraced)
                watcher.set(self._tracer.watch)

        return check

    def span_of(self, event: Event) -> str:
        """The span of the delivery that is under way, named as soon as something follows from it."""
        found = self._named.get(event.seq)
        if found is None:
            found = self._named[event.seq] = self._tracer.new_span()
        return found

    def attempted(self, attempts: Attempts, invoked_ns: int) -> None:
        """Choose those to keep of the attempts of one batch."""
        self._batch, self._kept = attempts, []
        if self._traced:  # of those that ended before, none; after a stop some that never end
            for attempt in [one for one in attempts if TRACEPARENT in one.event.metadata]:
                self._traced -= 1
                if is_sampled(attempt.event):
                    self._keep(attempt, invoked_ns, None)
        for attempt in attempts.unusual:
            if id(attempt) not in self.unsettled and (why := self._why(attempt)) is not None:
                self._keep(attempt, invoked_ns, why)
        if self.redriven and "retried" in self._reasons:
            self._keep_redriven(attempts, invoked_ns)
        if (slowest := self._slowest) is not None and _any_before(attempts, attempts[-1].ended_ns - slowest.floor_ns):
            self._offer(slowest, attempts, invoked_ns)
        if self.hits or self._named or self.redriven:
            self._forget(attempts)

    def _keep_redriven(self, attempts: Attempts, invoked_ns: int) -> None:
        for attempt in attempts:
            if attempt.event.seq in self.redriven and id(attempt) not in self.unsettled:
                self._keep(attempt, invoked_ns, "retried")

    def _forget(self, attempts: Attempts) -> None:
        for attempt in attempts:
            self.redriven.pop(attempt.event.seq, None)
            self.hits.pop(attempt.event.seq, None)
            self._named.pop(attempt.event.seq, None)

    def _why(self, attempt: Attempt) -> str | None:
        if "dead_lettered" in self._reasons and isinstance(attempt.decision, Term):
            return "dead_lettered"
        if "failed" in self._reasons and (attempt.outcome != "ok" or isinstance(attempt.decision, Nak)):
            return "failed"
        return "retried" if "retried" in self._reasons and attempt.attempt > 1 else None

    def _keep(self, attempt: Attempt, invoked_ns: int, why: str | None) -> Delivered:
        event, tracer = attempt.event, self._tracer
        seq = event.seq
        record = self.unsettled[id(attempt)] = Delivered(
            attempt,
            self.receiver,
            self._named.pop(seq, "") or tracer.new_span(),
            invoked_ns,
            why,
            self._before.pop(seq) if seq in self._before else None,
            seq < self._first_seq,
        )
        self._kept.append(record)
        if self.hits:
            record.hits = self.hits.pop(seq, ())
        if self.redriven:
            record.redrive = self.redriven.pop(seq, None)
        if isinstance(attempt.decision, Nak):
            if len(self._before) >= MAX_RETRYING:
                del self._before[next(iter(self._before))]
            self._before[seq] = record.span
        return record

    def _offer(self, slowest: Slowest[Delivered], attempts: Attempts, invoked_ns: int) -> None:
        """Look at each: how long it took, from its publish on where this subscription was there by then."""
        for attempt in attempts:
            event = attempt.event
            since_ns = event.published_ns if event.seq >= self._first_seq else 0
            if event.due_ns or event.seq in self.redriven:
                since_ns = 0
            took_ns = attempt.ended_ns - (since_ns or attempt.begun_ns)
            if took_ns > slowest.floor_ns and id(attempt) not in self.unsettled:
                record = self._keep(attempt, invoked_ns, "slowest")
                record.held = True
                gone = slowest.offer(took_ns, record)
                if gone is not None:
                    self.unsettled.pop(id(gone.attempt), None)

    def settled(self, attempts: Attempts, ok_ns: int, answer: str) -> None:
        """The store has answered for the settlements of these."""
        found = self.unsettled
        if attempts is self._batch:  # as without a durable store: no need to look for those that are kept
            attempts = Attempts(record.attempt for record in self._kept)
        if answer != "ok":
            for attempt in attempts:
                if (record := found.get(id(attempt))) is not None:
                    record.refused_ns = [*(record.refused_ns or ()), ok_ns]
            return
        for attempt in attempts:
            if (record := found.pop(id(attempt), None)) is not None:
                record.settled_ns = ok_ns
                if not record.held:
                    self._tracer.keep(record)

    def decide(self) -> None:
        """The window is over: its slowest are kept."""
        for record in self._slowest.take() if self._slowest is not None else ():
            record.held = False
            if record.settled_ns:
                self._tracer.keep(record)

    def finish(self) -> None:
        """There will be no more: what has no answer goes without one."""
        self.decide()
        for record in self.unsettled.values():
            self._tracer.keep(record)
        self.unsettled.clear()
