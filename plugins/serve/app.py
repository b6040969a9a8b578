"""The ASGI application: publishing by HTTP, the WebSocket, and what operators ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from squall.core.errors import NotRunning, SquallError
from squall.core.event import Receipt
from squall.plugins.serve import cloudevents, inspection, openapi, wire
from squall.plugins.serve.access import address_of
from squall.plugins.serve.connection import Connection
from squall.plugins.serve.errors import BadRequest
from squall.plugins.serve.hub import Hub
from squall.plugins.serve.letters import Plan, Redriven
from squall.plugins.serve.problems import Problem, problem_of
from squall.plugins.serve.publishing import Outgoing
from squall.plugins.serve.transports import ABORT


def make_app(hub: Hub) -> Starlette:
    """The application of a hub, without the guard that stands before it."""

    async def publish(request: Request) -> Response:
        address, events = address_of(request.scope), list[Outgoing | SquallError]()
        try:
            posted = cloudevents.read(request.headers.raw, await _body(request, hub))
            if isinstance(posted, Outgoing):
                events = [posted]
                return _json(_shown(await _publish_one(hub, address, events)))
            events = posted
            hub.limit(address, events)
            return _json({"receipts": [_shown(one) for one in await hub.publishing.together(events, address)]})
        except SquallError as error:
            problem = problem_of(error)
            return _refused(replace(problem, detail=cloudevents.told(problem.detail, events)))

    async def stream(websocket: WebSocket) -> None:
        if wire.SUBPROTOCOL not in websocket.scope["subprotocols"]:
            asked = f"expected the WebSocket subprotocol {wire.SUBPROTOCOL}"
            await websocket.receive()
            await websocket.send_denial_response(_refused(Problem(400, "BadRequest", asked)))
            return
        await websocket.accept(wire.SUBPROTOCOL)
        connection = Connection(hub, websocket._receive, websocket._send, address_of(websocket.scope))
        await hub.serve(connection, websocket.scope["extensions"][ABORT]["now"])

    async def no_stream(request: Request) -> Response:
        what = f"{request.url.path} is a WebSocket, of the subprotocol {wire.SUBPROTOCOL}"
        return _refused(Problem(426, "BadRequest", what, told=((b"upgrade", b"websocket"),)))

    routes = [
        Route("/v1/events", publish, methods=["POST"]),
        WebSocketRoute("/v1/stream", stream),
        Route("/v1/stream", no_stream),
    ]
    return Starlette(
        routes=[*routes, *_for_operators(hub), *_for_dead_letters(hub)], exception_handlers={HTTPException: _http_error}
    )


def _for_operators(hub: Hub) -> list[Route]:
    async def healthy(request: Request) -> Response:
        return _json({"status": "ok"})

    async def ready(request: Request) -> Response:
        why = hub.not_ready()
        return _json({"status": "ready"}) if why is None else _refused(Problem(503, "NotReady", why))

    async def metrics(request: Request) -> Response:
        return Response(hub.metrics_text(), headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"})

    async def status(request: Request) -> Response:
        return await _asked(inspection.status(hub.router))

    described = openapi.document(version("squall"))

    async def openapi_json(request: Request) -> Response:
        return _json(described)

    async def docs(request: Request) -> Response:
        return Response(openapi.page(described), media_type="text/html")

    return [
        Route("/healthz", healthy),
        Route("/readyz", ready),
        Route("/metrics", metrics),
        Route("/v1/status", status),
        Route("/openapi.json", openapi_json),
        Route("/docs", docs),
    ]


def _for_dead_letters(hub: Hub) -> list[Route]:
    async def dead_letters(request: Request) -> Response:
        return await _asked(inspection.dead_letters(hub.router, request.query_params))

    async def redrive(request: Request) -> Response:
        async def answer() -> Plan | Redriven:
            body = await _body(request, hub)
            if hub.draining:
                raise NotRunning("the server is stopping: redrive when it is back")
            return await inspection.redrive(hub.router, body, address_of(request.scope))

        return await _asked(answer())

    return [
        Route("/v1/dead-letters", dead_letters),
        Route("/v1/dead-letters/redrive", redrive, methods=["POST"]),
    ]


async def _asked(answer: Awaitable[object]) -> Response:
    try:
        return _json(await answer)
    except SquallError as error:
        return _refused(problem_of(error))


async def _publish_one(hub: Hub, address: str, events: list[Outgoing | SquallError]) -> Receipt:
    hub.limit(address, events)
    begun = hub.publishing.begin(events, address)
    if begun.waiting:
        await begun.answered()
    (result,) = begun.results()
    if isinstance(result, SquallError):
        raise result
    return result


async def _body(request: Request, hub: Hub) -> bytes:
    """The whole body. Raises BadRequest when it is too large, or does not come in time."""
    most, patience_s = hub.options.max_request, hub.options.body_timeout
    too_large = BadRequest(f"the body is larger than {most} bytes", 413)
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > most:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(patience_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size > most:
                    raise too_large
                chunks.append(chunk)
    except TimeoutError:
        raise BadRequest(f"the body did not arrive within {patience_s} s", 408) from None
    except ClientDisconnect:
        raise BadRequest("the client is gone") from None
    return b"".join(chunks)


def _shown(receipt: Receipt) -> dict[str, Any]:
    return receipt._asdict()


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _refused(problem: Problem) -> Response:
    response = Response(problem.body, problem.status)
    response.raw_headers = problem.headers
    return response


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = tuple((name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items())
    what = f"{request.method} {request.url.path}: {error.detail}"
    title = HTTPStatus(error.status_code).phrase.replace(" ", "")
    return _refused(Problem(error.status_code, title, what, told=told))
