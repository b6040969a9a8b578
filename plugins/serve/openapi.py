"""The server's HTTP interface as OpenAPI 3.1, and as a page for people."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from squall.core.errors import MAX_DELAY_S
from squall.core.event import MAX_TEXT
from squall.core.patterns import MAX_CHARACTERS, MAX_TOKENS
from squall.core.redrive import MAX_PER_SECOND, MAX_REDRIVEN
from squall.plugins.serve.letters import MAX_SEQ

_TOKEN = r"[^\s\x85.*>\x00-\x1f\x7f]+"
_WILD = rf"({_TOKEN}|\*)"
_BASE64 = r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"

Json = dict[str, Any]

MAX_DIGITS = 15
WHOLE_NUMBER = f"a whole number of at most {MAX_DIGITS} digits"

_PROBLEM = {
    "type": "object",
    "description": "What went wrong (RFC 9457), and what became of what was asked.",
    "required": ["status", "title", "detail", "outcome"],
    "properties": {
        "status": {"type": "integer"},
        "title": {"type": "string", "description": "the error's name, such as InvalidEvent or Overflow"},
        "detail": {"type": "string", "description": "what, where, what was expected"},
        "outcome": {"enum": ["fail", "info"], "description": "fail: surely not done; info: nobody knows"},
        "retry_after_s": {"type": "number", "description": "when to try again, as Retry-After says in whole seconds"},
    },
}
_RECEIPT = {
    "type": "object",
    "required": ["id", "seq", "durability", "duplicate"],
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "seq": {"type": "integer", "description": "the store's number; 0 where a routing rule dropped the event"},
        "durability": {"enum": ["memory", "process", "disk", None]},
        "duplicate": {"type": "boolean", "description": "it was published before, and is stored once"},
    },
}
_TEXT = {"type": ["string", "null"], "maxLength": MAX_TEXT}
_DURATION = {"type": ["integer", "null"], "maximum": MAX_DELAY_S * 1000}
_EVENT = {
    "type": "object",
    "description": "A CloudEvent 1.0; further extension attributes are kept as metadata. What is null is not said.",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {
            "type": "string",
            "minLength": 1,
            "description": "with source: the event's identity, safe to publish again",
        },
        "source": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT},
        "type": {
            "type": "string",
            "maxLength": MAX_CHARACTERS,
            "pattern": rf"^(?!\$){_TOKEN}(\.{_TOKEN}){{0,{MAX_TOKENS - 1}}}$",
            "description": "dot-separated tokens, which subscriptions match",
        },
        "subject": {**_TEXT, "description": "the key, where there is no partitionkey"},
        "time": {"type": ["string", "null"], "format": "date-time"},
        "datacontenttype": {"type": ["string", "null"]},
        "data": {"description": "JSON, or text of another datacontenttype"},
        "data_base64": {"type": "string", "pattern": _BASE64, "description": "instead of data: bytes"},
        "partitionkey": {**_TEXT, "description": "events of a key are delivered in order"},
        "priority": {"enum": ["CRITICAL", "HIGH", "NORMAL", "LOW", None], "default": "NORMAL"},
        "correlationid": {**_TEXT, "minLength": 1},
        "delayms": {**_DURATION, "minimum": 0, "description": "deliver no sooner than after so long"},
        "ttlms": {**_DURATION, "minimum": 1, "description": "deliver no later than after so long: more than delayms"},
    },
    "propertyNames": {"pattern": "^([a-z0-9]+|data_base64)$"},
    "not": {"required": ["data", "data_base64"]},
}
_STATUS = {
    "type": "object",
    "description": "What the router holds, and its subscriptions that have a handler just now.",
    "required": ["durability", "events", "max_events", "dead_letters", "next_seq", "subscriptions"],
    "properties": {
        "durability": {"enum": ["memory", "process", "disk"]},
        "events": {"type": "integer", "description": "events that are stored"},
        "max_events": {
            "type": ["integer", "null"],
            "description": "so many fill the store; null: no number does",
        },
        "dead_letters": {"type": "integer", "description": "dead letters that are stored"},
        "next_seq": {"type": "integer", "description": "the seq that the next event gets"},
        "subscriptions": {
            "type": "array",
            "description": "id, name, subscriber, pattern, and how many events are pending (null: another "
            "router of the same store delivers it)",
            "items": {"type": "object"},
        },
    },
}
_REASONS = ["rejected", "overflow", "delivery_limit", "undecodable", "timeout"]
_LETTER: Json = {
    "type": "object",
    "description": "An event that a subscription will not be given again, unless it is redriven.",
    "required": ["id", "seq", "type", "subscription", "subscription_id", "reason", "attempts", "redrives"],
    "properties": {
        "id": {"type": "string"},
        "seq": {"type": "integer"},
        "type": {"type": "string"},
        "source": {"type": "string"},
        "key": {"type": ["string", "null"]},
        "subscription": {"type": "string", "description": "its name, or its subscriber's"},
        "subscription_id": {"type": "string"},
        "reason": {"enum": _REASONS},
        "attempts": {"type": "integer"},
        "first": {"type": "string", "format": "date-time", "description": "when it was attempted first"},
        "last": {"type": "string", "format": "date-time", "description": "when it was given up"},
        "error_type": {"type": "string"},
        "error": {"type": "string"},
        "redrives": {"type": "integer", "description": "how often it was given back"},
        "given_back": {
            "type": ["string", "null"],
            "format": "date-time",
            "description": "when it was last given back; null while it waits",
        },
    },
}
_DEAD_LETTER: Json = {
    **_LETTER,
    "required": [*_LETTER["required"], "payload_base64"],
    "properties": {
        **_LETTER["properties"],
        "payload_base64": {"type": "string", "description": "the payload as it was published"},
        "metadata": {"type": "object", "description": "the event's metadata"},
        "trace": {"type": "string", "description": "where the error was raised"},
    },
}
_PATTERN: Json = {
    "maxLength": MAX_CHARACTERS,
    "pattern": rf"^(>|{_WILD}(\.{_WILD}){{0,{MAX_TOKENS - 2}}}(\.({_WILD}|>))?)$",
}
_REDRIVE = {
    "type": "object",
    "description": "Which of the dead letters that wait are to be given back: those to which all of it applies. What "
    "is null is not said.",
    "required": [],
    "additionalProperties": False,
    "properties": {
        "subscription": {"type": ["string", "null"], "description": "a subscription's id or name"},
        "reason": {"enum": [*_REASONS, None]},
        "pattern": {"type": ["string", "null"], **_PATTERN, "description": "of the events' types"},
        "seqs": {
            "type": ["array", "null"],
            "items": {"type": "integer", "minimum": 1, "maximum": MAX_SEQ},
            "description": "the events' own",
        },
        "limit": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_REDRIVEN,
            "default": 500,
            "description": "the oldest so many",
        },
        "per_second": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": MAX_PER_SECOND,
            "default": 100,
            "description": "so many are delivered per second at most",
        },
        "token": {
            "type": ["string", "null"],
            "description": "what the dry run of the same query gave; without it, this is the dry run",
        },
    },
}
_PLAN = {
    "type": "object",
    "description": "The dry run: what would be given back, and the token that allows just that.",
    "required": ["dead_letters", "more", "token"],
    "properties": {
        "dead_letters": {"type": "array", "items": {"$ref": "#/components/schemas/Letter"}},
        "more": {"type": "boolean", "description": "there are others past the limit"},
        "token": {"type": "string"},
    },
}
_REDRIVEN = {
    "type": "object",
    "description": "What was given back; left: what somebody else gave back just before, or another router delivers, "
    "or nobody any more.",
    "required": ["given_back", "left"],
    "properties": {
        "given_back": {"type": "array", "items": {"$ref": "#/components/schemas/Letter"}},
        "left": {"type": "array", "items": {"$ref": "#/components/schemas/Letter"}},
    },
}
_FAILURES = {
    400: "no CloudEvent, or one that squall cannot take",
    401: "the token is missing or wrong",
    403: "wrong Host or Origin, or a rule refuses the event",
    408: "the body did not arrive in time",
    409: "the id was given to another event",
    413: "the body is too large",
    415: "a CloudEvents format other than JSON",
    429: "too fast, or no room: see Retry-After",
    503: "the store failed, or the server stops: see outcome",
}


def document(version: str) -> Json:
    """The OpenAPI document."""
    several = {"type": "array", "items": _ref("Receipt")}
    receipts = {"type": "object", "required": ["receipts"], "properties": {"receipts": several}}
    publish = {
        "summary": "Publish events",
        "description": "In binary mode attributes are ce- headers and the body is the data. A batch is stored whole "
        "or not at all, at most 1,000 events.",
        "requestBody": {
            "required": False,
            "content": {
                "application/cloudevents+json": {"schema": _ref("CloudEvent")},
                "application/cloudevents-batch+json": {"schema": {"type": "array", "items": _ref("CloudEvent")}},
                "*/*": {"schema": {"description": "binary mode: the event's data"}},
            },
        },
        "responses": {
            "200": _answer("acknowledged: stored as durably as it says", {"oneOf": [_ref("Receipt"), receipts]}),
            **_problems(_FAILURES),
        },
    }
    status = {"type": "object", "properties": {"status": {"type": "string"}}}
    not_ready = _answer("nothing new is taken", _ref("Problem"), "application/problem+json")
    paths: Json = {
        "/v1/events": {"post": publish},
        "/v1/stream": {
            "get": {
                "summary": "Publish and subscribe by WebSocket",
                "description": "Subprotocol squall.v1, frames of protos/wire.proto.",
                "responses": {
                    "101": {"description": "a WebSocket"},
                    "426": _answer("not one", _ref("Problem"), "application/problem+json"),
                },
            }
        },
        "/healthz": {"get": _open("Is the process alive?", {"200": _answer("it is", status)})},
        "/readyz": {"get": _open("Does it take events?", {"200": _answer("it does", status), "503": not_ready})},
        "/metrics": {
            "get": {
                "summary": "The router's numbers for Prometheus",
                "responses": {"200": _answer("samples", {"type": "string"}, "text/plain")},
            }
        },
    }
    paths |= _inspection()
    return {
        "openapi": "3.1.0",
        "info": {"title": "squall", "version": version, "description": "An event router for remote clients."},
        "security": [{"token": []}, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "CloudEvent": _EVENT,
                "Receipt": _RECEIPT,
                "Problem": _PROBLEM,
                "Status": _STATUS,
                "DeadLetter": _DEAD_LETTER,
                "Letter": _LETTER,
                "Redrive": _REDRIVE,
                "Plan": _PLAN,
                "Redriven": _REDRIVEN,
            },
        },
    }


def _inspection() -> Json:
    next_one = {"type": ["integer", "null"], "description": "the `after` of those that follow; null: none do"}
    several = {"type": "array", "items": _ref("DeadLetter")}
    parts = {"dead_letters": several, "next": next_one}
    letters = {"type": "object", "required": [*parts], "properties": parts}
    failed = _problems({400: "asked for in a way that squall cannot take", 503: _FAILURES[503]})
    not_now = "not what the dry run showed, or a subscription is just being taken up or left: nothing was given back"
    highest = 10**MAX_DIGITS - 1
    parameters = [
        _parameter("after", {"type": "integer", "minimum": 0, "maximum": highest, "default": 0}),
        _parameter("limit", {"type": "integer", "minimum": 1, "maximum": MAX_REDRIVEN, "default": 500}),
        _parameter("subscription", {"type": "string"}),
        _parameter("reason", {"enum": _REASONS}),
        _parameter("pattern", {"type": "string", **_PATTERN}),
        _parameter("seq", {"type": "integer", "minimum": 1, "maximum": MAX_SEQ}),
    ]
    return {
        "/v1/status": {
            "get": {
                "summary": "What the router holds",
                "responses": {"200": _answer("its sums", _ref("Status")), "503": failed["503"]},
            }
        },
        "/v1/dead-letters": {
            "get": {
                "summary": "Dead letters, 500 at a time or fewer, from the after-th on",
                "description": "Those to which all of it applies; `next` leads on, where there are more.",
                "parameters": parameters,
                "responses": {"200": _answer("in the order of their arrival", letters), **failed},
            }
        },
        "/v1/dead-letters/redrive": {
            "post": {
                "summary": "Give dead letters back to their subscriptions",
                "description": "Without a token nothing is given back: the answer shows what would be, and the token "
                "that allows just that.",
                "requestBody": {"required": True, "content": {"application/json": {"schema": _ref("Redrive")}}},
                "responses": {
                    "200": _answer(
                        "what would be given back, or what was", {"oneOf": [_ref("Plan"), _ref("Redriven")]}
                    ),
                    **_problems(
                        {
                            400: "it does not say which, or not so that squall can take it",
                            408: _FAILURES[408],
                            409: not_now,
                            413: _FAILURES[413],
                            503: _FAILURES[503],
                        }
                    ),
                },
            }
        },
    }


def page(shown: Json) -> str:
    """The document as HTML that needs nothing else: no script, no font, no other host."""
    parts = [f"<h1>{html.escape(shown['info']['title'])} {html.escape(shown['info']['version'])}</h1>"]
    for path, methods in shown["paths"].items():
        for method, one in methods.items():
            parts.append(f"<h2><code>{method.upper()} {html.escape(path)}</code></h2><p>{html.escape(one['summary'])}.")
            parts.append(f" {html.escape(one.get('description', ''))}</p>")
            parts.append(_table({code: answer["description"] for code, answer in one["responses"].items()}))
    for name, schema in shown["components"]["schemas"].items():
        parts.append(f"<h2>{name}</h2><p>{html.escape(schema.get('description', ''))}</p>")
        required = schema["required"]
        parts.append(
            _table(
                {
                    field: f"{_kind(one)}{', required' if field in required else ''}. {one.get('description', '')}"
                    for field, one in schema["properties"].items()
                }
            )
        )
    style = "body{font:16px/1.5 sans-serif;max-width:50em;margin:2em auto;padding:0 1em}td{padding:0 1em 0 0}"
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>squall</title><style>{style}</style>'
    return head + "".join(parts) + '<p><a href="/openapi.json">openapi.json</a></p></html>'


def _table(rows: Mapping[str, str]) -> str:
    cells = (f"<tr><td><code>{html.escape(name)}</code><td>{html.escape(text)}" for name, text in rows.items())
    return f"<table>{''.join(cells)}</table>"


def _kind(schema: Json) -> str:
    if "enum" in schema:
        return " | ".join("null" if one is None else str(one) for one in schema["enum"])
    kind = schema.get("const", schema.get("type", "any"))
    return " | ".join(kind) if isinstance(kind, list) else str(kind)


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _parameter(name: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "schema": schema}


def _answer(description: str, schema: Json, media: str = "application/json") -> Json:
    return {"description": description, "content": {media: {"schema": schema}}}


def _problems(whys: Mapping[int, str]) -> Json:
    return {str(code): _answer(why, _ref("Problem"), "application/problem+json") for code, why in whys.items()}


def _open(summary: str, responses: Json) -> Json:
    return {"summary": summary, "security": [{}], "responses": responses}
