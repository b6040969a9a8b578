"""What schemathesis is told beside the OpenAPI page: a request that is no CloudEvent in JSON is one in binary mode."""

from __future__ import annotations

import itertools
from typing import Any

import schemathesis
from schemathesis.core import NOT_SET

_NUMBERS = itertools.count(1)


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Give it the attributes as headers, which OpenAPI cannot ask of one media type alone."""
    in_json = case.body is not NOT_SET and (case.media_type or "").startswith("application/cloudevents")
    if case.operation.path == "/v1/events" and not in_json:
        case.headers["ce-specversion"], case.headers["ce-id"] = "1.0", f"binary-{next(_NUMBERS)}"
        case.headers["ce-source"], case.headers["ce-type"] = "/schemathesis", "binary.mode"
