"""The least that a server must do: starlette and uvicorn as `squall serve` sets them up, giving back what they get."""

from __future__ import annotations

import socket

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket


async def post(request: Request) -> Response:
    """The body, back."""
    return Response(await request.body(), media_type="application/json")


async def stream(websocket: WebSocket) -> None:
    """Each message, back."""
    await websocket.accept("squall.v1")
    async for message in websocket.iter_bytes():
        await websocket.send_bytes(message)


def main() -> None:
    """Serve on a free port, and print where."""
    listening = socket.create_server(("127.0.0.1", 0))
    app = Starlette(routes=[Route("/v1/events", post, methods=["POST"]), WebSocketRoute("/v1/stream", stream)])
    print(f"echo serves http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        app, http="httptools", ws="websockets-sansio", ws_per_message_deflate=False, log_config=None,
        access_log=False, lifespan="off", server_header=False,
    )  # fmt: skip
    uvicorn.Server(config).run([listening])


if __name__ == "__main__":
    main()
