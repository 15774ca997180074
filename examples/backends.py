"""Demo backends for the examples: each answers with its name and what it was sent. Standard library only.

    python examples/backends.py cart=9101 pay=9102

Not a model of a backend: it is what one needs to see where a request went.
"""

import asyncio
import json
import os
import sys
from http import HTTPStatus


async def serve(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection; HTTP/1.1 with keep-alive and bodies of a declared length."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            line, *lines = head.decode("latin-1").split("\r\n")
            method, target, _ = line.split(" ", 2)
            headers = {}
            for entry in filter(None, lines):
                key, _, value = entry.partition(":")
                headers[key.lower()] = value.strip()
            await reader.readexactly(int(headers.get("content-length", "0")))
            body = json.dumps({"backend": name, "method": method, "path": target, "headers": headers}, indent=2) + "\n"
            status = HTTPStatus.OK
            answer = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\n\r\n"
            )
            writer.write(answer.encode() + (body.encode() if method != "HEAD" else b""))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, ValueError):
        pass  # the client is gone, or did not speak HTTP
    except asyncio.CancelledError:
        pass  # we are told to end; asyncio's streams would print this one, connection by connection
    finally:
        writer.close()


async def main(arguments: list[str]) -> None:
    servers = [await listen(*argument.split("=")) for argument in arguments]
    async with asyncio.TaskGroup() as tasks:
        for server in servers:
            tasks.create_task(server.serve_forever())


async def listen(name: str, port: str) -> asyncio.Server:
    try:
        return await asyncio.start_server(lambda reader, writer: serve(name, reader, writer), "127.0.0.1", int(port))
    except OSError as error:
        sys.exit(f"backend {name}: port {port} cannot be opened: {os.strerror(error.errno or 0)}")


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(0)
