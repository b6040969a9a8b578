"""Spans, made of records. What they say of an event is kept once for all of its spans, and without its payload.

Their names and kinds are OpenTelemetry's: https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/ .
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from squall.core.delivery import Nak, Term
from squall.core.errors import text_of
from squall.core.event import Event
from squall.plugins.tracing.context import TRACEPARENT, TraceContext, read, span_of, trace_of
from squall.plugins.tracing.records import Delivered, Hit, LetGo, Published, Receiver, Record, Redrove, Replayed, Try

Operation = Literal["publish", "store", "process", "ack", "nak", "dead_letter", "drop", "redrive", "replay"]
Value = str | int | float | bool
MAX_MESSAGE = 500
NOTHING: Mapping[str, Value] = {}


class About(msgspec.Struct, gc=False):
    """What spans say of an event."""

    id: str
    source: str
    correlation: str
    key: str | None
    priority: str
    size: int
    seq: int


class Link(msgspec.Struct, gc=False):
    """To another span: `what` says how this one follows from it, `publish`, `attempt` or `redrive`."""

    trace: str
    span: str
    what: str


class Note(msgspec.Struct, gc=False):
    """An event in OpenTelemetry's sense: something at a monotonic time within a span."""

    at_ns: int
    name: str
    attributes: Mapping[str, Value] = NOTHING


class Span(msgspec.Struct, gc=False):
    """One span. Times are monotonic ns, as in a run's history; wall_ns is the begin as wall time.

    `waited_ns`: from the publish to a first attempt. `why` is it kept: `sampled`, or the rule. `partial`: what came
    before in its trace was not noted. `more`: what no other field says.
    """

    trace: str
    span: str
    parent: str | None
    operation: Operation
    topic: str
    begun_ns: int
    ended_ns: int
    wall_ns: int
    about: About | None = None
    receiver: Receiver | None = None
    attempt: int = 0
    waited_ns: int | None = None
    error: str | None = None
    message: str = ""
    why: str = "sampled"
    partial: bool = False
    more: Mapping[str, Value] = NOTHING
    links: Sequence[Link] = ()
    notes: Sequence[Note] = ()


Add = Callable[[Span], None]


class SpanMaker:
    """Makes spans of records, in any thread. `scrub` hides known secrets in what errors say."""

    def __init__(self, new_span: Callable[[], str], scrub: Callable[[str], str]) -> None:
        self._new_span, self._scrub = new_span, scrub

    def make(self, records: Sequence[Record], offset_ns: int) -> list[Span]:
        """The spans of all records. offset_ns: what wall time is ahead of monotonic time."""
        found: list[Span] = []
        origins: dict[str, TraceContext] = {}  # what was read once, or written here
        for record in records:
            if isinstance(record, Delivered):
                self._delivered(record, offset_ns, origins, found.append)
            elif isinstance(record, Published):
                self._published(record, offset_ns, found.append)
                origins[record.event.metadata[TRACEPARENT]] = record.context
            elif isinstance(record, LetGo):
                found.append(self._let_go(record, offset_ns))
            elif isinstance(record, Redrove):
                found.append(self._redrove(record, offset_ns))
            else:
                found.append(self._replayed(record, offset_ns))
        return found

    def _published(self, record: Published, offset_ns: int, add: Add) -> None:
        event, (trace, span, _) = record.event, record.context
        about, begun_ns, ended_ns = _about(event), event.published_ns, record.ended_ns
        error, message = self._error(record.error)
        more: dict[str, Value] = {} if record.batch == 1 else {"messaging.batch.message_count": record.batch}
        if record.repeated:
            more["squall.duplicate"] = True
        reached = record.begun_ns > 0
        if not reached or record.refused:  # its id may be published again, and the span be taken then
            span, more["squall.stored"] = self._new_span(), False
        if not reached:
            ended_ns = max((hit.at_ns for hit in record.hits or ()), default=begun_ns)
        published = Span(
            trace,
            span,
            record.parent,
            "publish",
            event.type,
            begun_ns,
            ended_ns,
            begun_ns + offset_ns,
            about,
            error=error,
            message=message,
            more=more,
            notes=_hits(record.hits, begun_ns, ended_ns) if record.hits else (),
        )
        add(published)
        last = [Try(record.begun_ns, record.ended_ns, record.error)] if reached else ()
        for asked in (*record.tries, *last):
            error, message = self._error(asked.error)
            stored = Span(
                trace,
                self._new_span(),
                span,
                "store",
                event.type,
                asked.begun_ns,
                asked.ended_ns,
                asked.begun_ns + offset_ns,
                about,
                error=error,
                message=message,
            )
            add(stored)

    def _delivered(self, record: Delivered, offset_ns: int, origins: dict[str, TraceContext], add: Add) -> None:
        attempt, sampled = record.attempt, record.why is None
        event, begun_ns, ended_ns = attempt.event, attempt.begun_ns, attempt.ended_ns
        about = _about(event)
        header = event.metadata.get(TRACEPARENT, "")
        origin = origins.get(header) or origins.setdefault(header, _origin(event)) if sampled else _origin(event)
        error, message = self._error(attempt.error) if attempt.error is not None else (None, "")
        more: dict[str, Value] = {}
        if attempt.outcome != "ok":
            more["squall.outcome"] = attempt.outcome
        if record.replayed:
            more["squall.replayed"] = True
        if not record.settled_ns:
            more["squall.settled"] = False
        links = [Link(origin.trace, origin.span, "publish")]
        if record.before is not None:
            links.append(Link(origin.trace, record.before, "attempt"))
        if record.redrive is not None:
            more["squall.redriven"] = True
            links.append(Link(origin.trace, record.redrive, "redrive"))
        notes = _hits(record.hits, begun_ns, ended_ns) if record.hits else ()
        if error is not None:
            raised = {"exception.type": error, "exception.message": message}
            notes = [*notes, Note(ended_ns, "exception", raised)]
        waited = attempt.attempt == 1 and event.published_ns and not record.replayed and record.redrive is None
        why = record.why or "sampled"
        processed = Span(
            origin.trace,
            record.span,
            origin.span if sampled else None,
            "process",
            event.type,
            begun_ns,
            ended_ns,
            begun_ns + offset_ns,
            about,
            record.receiver,
            attempt.attempt,
            begun_ns - event.published_ns if waited else None,
            error,
            message,
            why,
            not sampled,
            more,
            links,
            notes,
        )
        add(processed)
        if record.settled_ns:
            add(self._settled(record, about, origin.trace, why, offset_ns))

    def _settled(self, record: Delivered, about: About, trace: str, why: str, offset_ns: int) -> Span:
        attempt, decision = record.attempt, record.attempt.decision
        operation: Operation = "ack"
        error, message, more = None, "", NOTHING
        if isinstance(decision, Nak):
            operation, more = "nak", {"squall.delay_s": decision.delay_s}
        elif isinstance(decision, Term):
            operation, more = "dead_letter", {"squall.reason": decision.reason}
            error, message = decision.reason, self._scrub(decision.text)[:MAX_MESSAGE]
        return Span(
            trace,
            self._new_span(),
            record.span,
            operation,
            attempt.event.type,
            record.invoked_ns,
            record.settled_ns,
            record.invoked_ns + offset_ns,
            about,
            record.receiver,
            attempt.attempt,
            None,
            error,
            message,
            why,
            record.why is not None,
            more,
            notes=[Note(at_ns, "refused") for at_ns in record.refused_ns] if record.refused_ns else (),
        )

    def _let_go(self, record: LetGo, offset_ns: int) -> Span:
        event, at_ns = record.event, record.at_ns
        origin = _origin(event)
        return Span(
            origin.trace,
            record.span,
            origin.span,
            "drop",
            event.type,
            at_ns,
            at_ns,
            at_ns + offset_ns,
            _about(event),
            record.receiver,
            error=record.why,
            more={"squall.reason": record.why},
            links=[Link(origin.trace, origin.span, "publish")],
        )

    def _redrove(self, record: Redrove, offset_ns: int) -> Span:
        event, at_ns, sampled = record.event, record.at_ns, record.why is None
        origin = _origin(event)
        return Span(
            origin.trace,
            record.span,
            origin.span if sampled else None,
            "redrive",
            event.type,
            at_ns,
            at_ns,
            at_ns + offset_ns,
            _about(event),
            record.receiver,
            why=record.why or "sampled",
            partial=not sampled,
            more={"squall.origin": record.origin} if record.origin else NOTHING,
            links=[Link(origin.trace, origin.span, "publish")],
        )

    def _replayed(self, record: Replayed, offset_ns: int) -> Span:
        error, message = self._error(record.error)
        return Span(
            record.context.trace,
            record.context.span,
            record.parent,
            "replay",
            record.query.pattern or ">",
            record.begun_ns,
            record.ended_ns,
            record.begun_ns + offset_ns,
            error=error,
            message=message,
            more={"messaging.batch.message_count": record.count},
            links=[Link(link.trace, link.span, "publish") for link in record.links],
        )

    def _error(self, error: BaseException | None) -> tuple[str | None, str]:
        """Its type's name, and what it says without secrets."""
        if error is None:
            return None, ""
        return type(error).__qualname__, self._scrub(text_of(error))[:MAX_MESSAGE]


def _origin(event: Event) -> TraceContext:
    """The publish of the event: as its metadata says, else as its id gives."""
    found = read(event.metadata) if TRACEPARENT in event.metadata else None
    return found or TraceContext(trace_of(event.id), span_of(event.id))


def _about(event: Event) -> About:
    return About(
        event.id,
        event.source,
        event.correlation_id,
        event.key,
        event.priority.name,
        len(event.payload),
        event.seq,
    )


def _hits(hits: Sequence[Hit], begun_ns: int, ended_ns: int) -> Sequence[Note]:
    """Faults, as far as they acted within the span."""
    return [
        Note(hit.at_ns, "fault", {"squall.fault": hit.fault, "squall.seam": hit.seam})
        for hit in hits
        if begun_ns <= hit.at_ns <= ended_ns
    ]
