"""The OpenAPI page: what it says is what the server does."""

from __future__ import annotations

import json

import jsonschema
from starlette.routing import Route, WebSocketRoute
from tests.plugins.serve.served import Served

CE = {"id": "1", "source": "/shop", "type": "order.paid", "specversion": "1.0"}


async def test_every_path_of_the_document_is_served_and_no_other() -> None:
    """With the methods that it names; the document itself needs no token."""
    async with Served() as served:
        document = (await served.http("GET", "/openapi.json")).json
        assert document["openapi"] == "3.1.0"
        routes = {route.path for route in served.server.app.routes if isinstance(route, Route | WebSocketRoute)}
        assert routes - {"/openapi.json", "/docs"} == document["paths"].keys()
        for path, methods in document["paths"].items():
            for method in methods:
                assert (await served.http(method.upper(), path)).status in (200, 400) or path == "/v1/stream"


async def test_answers_are_as_their_schemas_say() -> None:
    """A receipt, a problem, and an event that the schema allows and the server takes."""
    async with Served() as served:
        document = (await served.http("GET", "/openapi.json")).json
        schemas = document["components"]["schemas"]
        jsonschema.validate((await served.post(b"", **CE)).json, schemas["Receipt"])
        refused = await served.post(b"", **{**CE, "specversion": "2"})
        jsonschema.validate(refused.json, schemas["Problem"])
        assert str(refused.status) in document["paths"]["/v1/events"]["post"]["responses"]
        extensions = {"partitionkey": "p", "priority": "LOW", "correlationid": "c", "delayms": 1, "ttlms": 1000}
        event = {**CE, "id": "2", "subject": "s", "time": "2026-01-01T00:00:00Z", "data": 5, **extensions}
        jsonschema.validate(event, schemas["CloudEvent"])
        assert set(event) | {"datacontenttype", "data_base64"} == schemas["CloudEvent"]["properties"].keys()
        answer = await served.post(json.dumps(event).encode(), "application/cloudevents+json")
        assert answer.status == 200


async def test_the_page_needs_nothing_from_elsewhere() -> None:
    """No script, no other host; all paths are on it."""
    async with Served() as served:
        answer = await served.http("GET", "/docs")
        text = answer.body.decode()
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "<script" not in text
        assert "//" not in text.replace("<!doctype html>", "")
        for part in ("POST /v1/events", "GET /readyz", "partitionkey", "409"):
            assert part in text
