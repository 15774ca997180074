"""A supervisor as a process of its own, to be killed by tests: `python supervisor.py STATE BOOTSTRAP`.

It prints `live PID EPOCH ORIGIN` once its proxy is live, and ends on SIGTERM as `portway run` does.
"""

import asyncio
import signal
import sys
from pathlib import Path

from portway.infra.host import HostProxy
from portway.infra.state import StateFolder, StateFolderInUse
from tests.infra.running import BRISK, envoy


async def supervise(state: Path, bootstrap: bytes) -> None:
    with StateFolder(state) as folder:
        place = folder.proxy_folder("test")
        proxy = HostProxy(place, envoy(), bootstrap, BRISK)
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(proxy.run())
            await proxy.wait_ready()
            now = proxy.statistics()
            print(f"live {now.pid} {now.epoch} {now.origin}", flush=True)  # noqa: T201 - its parent reads it
            await stopping.wait()
            await proxy.stop()
        place.close()


if __name__ == "__main__":
    try:
        asyncio.run(supervise(Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
    except StateFolderInUse as error:
        sys.exit(str(error))
