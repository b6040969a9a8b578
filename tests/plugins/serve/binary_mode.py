"""What schemathesis is told beside the OpenAPI page: a request that is no CloudEvent in JSON is one in binary mode."""

from __future__ import annotations

import itertools
from typing import Any

import schemathesis
from schemathesis.core import NOT_SET

from squall.core.errors import MAX_DELAY_S

_NUMBERS = itertools.count(1)


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """No delay, where an event would expire before it is over: OpenAPI cannot ask that of two numbers."""
    for event in body if isinstance(body, list) else [body]:
        if isinstance(event, dict):
            delay_ms, ttl_ms = event.get("delayms"), event.get("ttlms")
            if not isinstance(delay_ms, int | float) or not isinstance(ttl_ms, int | float):
                continue
            if 0 <= delay_ms <= MAX_DELAY_S * 1000 and ttl_ms <= delay_ms:
                del event["delayms"]
    return body


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Give it the attributes as headers, which OpenAPI cannot ask of one media type alone."""
    in_json = case.body is not NOT_SET and (case.media_type or "").startswith("application/cloudevents")
    if case.operation.path == "/v1/events" and not in_json:
        case.headers["ce-specversion"], case.headers["ce-id"] = "1.0", f"binary-{next(_NUMBERS)}"
        case.headers["ce-source"], case.headers["ce-type"] = "/schemathesis", "binary.mode"
