"""Asking a certain process how it is.

The admin socket's path belongs to whoever bound it last, so an answer counts only if it names the base id and epoch of
the process that was meant.
"""

import asyncio
import contextlib
from datetime import timedelta

from portway.infra.envoy_admin import AdminUnreachable, EnvoyAdmin, ServerInfo, ServerState
from portway.infra.process import EnvoyProcess

FIRST_POLL_S, LONGEST_POLL_S = 0.02, 0.25


async def ask(process: EnvoyProcess, admin: EnvoyAdmin) -> ServerInfo | None:
    """What this process says of itself. `None` if it does not answer, or if another one does."""
    try:
        info = await admin.server_info()
    except AdminUnreachable:
        return None
    options = info.command_line_options
    is_it = (options.base_id, options.restart_epoch) == (str(process.launch.base_id), process.launch.epoch)
    return info if is_it else None


async def wait_answer(process: EnvoyProcess, admin: EnvoyAdmin, patience: timedelta) -> bool:
    """Whether it answers in time; a successor does once its predecessor has spoken with it. False if it ends."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience.total_seconds()):
            while process.exit is None:
                if await ask(process, admin) is not None:
                    return True
                await asyncio.sleep(FIRST_POLL_S)
    return False


async def wait_live(process: EnvoyProcess, admin: EnvoyAdmin) -> bool:
    """Until it has its first clusters and listeners, however long that takes. False if it ends before."""
    pause = FIRST_POLL_S
    while process.exit is None:
        info = await ask(process, admin)
        if info is not None and info.state is ServerState.LIVE:
            return True
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, LONGEST_POLL_S)
    return False
