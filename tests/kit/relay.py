"""Carries connections on to another address: what a balancer or a port forward does with each that it accepts."""

import asyncio
import contextlib

_CHUNK_BYTES = 1 << 16


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str, port: int) -> None:
    """Pass bytes both ways until either side ends, then close both. An address that refuses ends it at once.

    It does not wait for the other side's end, during which nothing would hold it: a connection at its end is not read
    any more, and of one that was opened asyncio holds the reader weakly.
    """
    try:
        with contextlib.suppress(OSError):
            inner_reader, inner_writer = await asyncio.open_connection(address, port)
            try:
                async with asyncio.TaskGroup() as tasks:
                    there = tasks.create_task(_copy(reader, inner_writer))
                    back = tasks.create_task(_copy(inner_reader, writer))
                    there.add_done_callback(lambda _: back.cancel())
                    back.add_done_callback(lambda _: there.cancel())
            finally:
                inner_writer.close()
    finally:
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # the other side hears it by the close
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
