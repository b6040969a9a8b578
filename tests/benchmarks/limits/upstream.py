"""The least that can stand behind a proxy: reads a length and so many bytes, and answers one byte."""

from __future__ import annotations

import socket
import threading

LENGTH_BYTES = 8
CHUNK_BYTES = 262_144


def serve(connection: socket.socket) -> None:
    """Answer one client to its end."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = bytearray(CHUNK_BYTES)
    with connection:
        while head := connection.recv(LENGTH_BYTES, socket.MSG_WAITALL):
            left = int.from_bytes(head)
            while left:
                left -= connection.recv_into(buffer, min(left, CHUNK_BYTES))
            connection.sendall(b".")


def main() -> None:
    """Serve on a free port, and print it."""
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    while True:
        connection, _ = listening.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
