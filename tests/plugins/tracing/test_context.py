"""W3C trace context in metadata: what is read, what is not, and the traces that ids give."""

from __future__ import annotations

import pytest

from squall.core.identity import system_ids
from squall.plugins.tracing.context import TraceContext, read, span_of, trace_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", True),
    ],
)
def test_a_traceparent_is_read(value: str, sampled: bool) -> None:
    """As the recommendation says, later versions too."""
    assert read({"traceparent": value}) == TraceContext(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        1,
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f" 00-{TRACE}-{SPAN}-01",
    ],
)
def test_what_is_none_is_not_read(value: object) -> None:
    """Malformed ones count as if there were none."""
    assert read({"traceparent": value}) is None
    assert read({}) is None


def test_an_id_is_its_trace() -> None:
    """A UUID's own digits: who knows the event's id finds its trace."""
    event_id = system_ids()()
    assert trace_of(event_id) == event_id.replace("-", "")
    assert span_of(event_id) == event_id.replace("-", "")[16:]


@pytest.mark.parametrize("event_id", ["mine", "", "00000000-0000-0000-0000-000000000000", "é" * 200])
def test_any_text_has_a_trace(event_id: str) -> None:
    """Ids of ready-made events may be anything; what a trace may not be is made otherwise, and always the same."""
    context = TraceContext(trace_of(event_id), span_of(event_id))
    assert read({"traceparent": context.header()}) == context
    assert trace_of(event_id) == context.trace
