"""The admin address: bound before anything else is done, answered when there is time."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from portway.admin.sockets import listen
from portway.app.machine import Machine

if TYPE_CHECKING:
    from portway.admin.server import AdminServer

ATTEND_AT_LATEST = timedelta(seconds=5)
"""Nobody waits longer for an answer at the admin address than this and its imports, however much is to be compiled."""


class Door(NamedTuple):
    """The admin address, bound."""

    host: str
    sockets: Sequence[socket.socket]


def open_door(address: str) -> Door | None:
    """Listen on the admin address before anything else is done: that it cannot be had is known at once."""
    if not address:
        return None
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        return Door(host, listen(host, int(port)))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        problem = f"--admin-address {address} cannot be opened: {reason}"
        raise OSError(f"{problem}; choose another, or an empty one for none") from error


async def attend(machine: Machine, door: Door) -> None:
    """Answer at the door until cancelled. Not before the first configuration is live, for which the time that the
    imports take is better spent; who asks meanwhile waits."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ATTEND_AT_LATEST.total_seconds()):
            await machine.wait_ready()
    make_server = await asyncio.to_thread(_import_answers)
    server = await make_server(machine, door.host, door.sockets)
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()


def _import_answers() -> "Callable[[Machine, str, Sequence[socket.socket]], Awaitable[AdminServer]]":
    from portway.app.answers import make_server  # late: see there

    return make_server
