"""`portway run`"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TextIO

import click
import structlog

from portway.app.console import Console
from portway.app.live_settings import SettingsFile
from portway.cli.access_lines import readable_lines
from portway.cli.options import has_colours, read_settings, setting_options
from portway.cli.progress import ProgressLine
from portway.infra.binary import EnvoyUnusable
from portway.infra.state import StateFolderError
from portway.kubernetes.errors import ConnectionProblem
from portway.settings import Settings, SettingsError, reads_cluster
from portway.telemetry.background import BackgroundWriter, background_writer
from portway.telemetry.logs import set_up_logs

log = structlog.get_logger(__name__)


@click.command(short_help="Serve what is declared; follow every change.")
@setting_options("sources", "edge", "host", "cluster", "admin", "logs")
def run(settings_file: Path | None, **flags: object) -> None:
    """Serve what files or a cluster declare: start Envoy, program it, follow every change.

    \b
    portway run -f manifests/ --http-port 8080 --https-port 8443

    Ends with 0 after SIGTERM or Ctrl-C, when requests have drained; with 1 if it cannot start or loses its state
    folder.
    """
    settings = read_settings(flags, settings_file)
    sources, in_cluster = settings.sources, settings.cluster.infrastructure == "kubernetes"
    if not sources.filenames and not reads_cluster(sources) and not in_cluster:
        raise click.UsageError(
            "give at least one -f PATH: a file, a folder, or - for standard input; or --kubernetes for a cluster"
        )
    if in_cluster and sources.filenames:
        raise click.UsageError("-f goes with --infrastructure host: what runs in a cluster is declared there")
    errors = set_up_logs(settings.logs.log_level, settings.logs.log_format, sys.stderr)
    failures: list[BaseException] = []
    try:
        run_portway = _program(in_cluster)
        asyncio.run(run_portway(settings, _console(settings.logs.log_format, errors), _followed(settings_file, flags)))
    except* (StateFolderError, EnvoyUnusable, ConnectionProblem, OSError) as group:
        failures = _leaves(group)
    if failures:  # not within `except*`: what is raised there is printed as a group, with its traceback
        errors.flush()
        for error in failures:
            click.echo(f"portway run: {error}", err=True)
        sys.exit(1)


def _program(in_cluster: bool) -> Callable[[Settings, Console, SettingsFile | None], Coroutine[None, None, None]]:
    # Imported late: each takes its time, and nobody needs both.
    if in_cluster:
        from portway.app.control_plane import run as run_control_plane

        return run_control_plane
    from portway.app.run import run as run_host

    return run_host


def _followed(path: Path | None, flags: dict[str, object]) -> SettingsFile | None:
    def read() -> Settings:
        try:
            return read_settings(flags, path)
        except click.UsageError as error:
            raise SettingsError(error.message) from error

    return SettingsFile(path=path, read=read) if path is not None else None


def _console(log_format: str, errors: BackgroundWriter) -> Console:
    output: TextIO | None = sys.stdout  # None where it was closed
    human = log_format == "human" or (log_format == "auto" and output is not None and output.isatty())
    writer = background_writer(output, _note_unread)

    def print_readable(lines: bytes) -> None:
        writer.write(readable_lines(lines, colours=has_colours()).encode())

    return Console(
        say=lambda text: errors.write(f"{text}\n".encode()),
        show=ProgressLine().show,
        access_log=print_readable if human else writer.write,
    )


def _note_unread(count: int) -> bytes:
    """Said in the log: among access log records there is no place for it."""
    log.warning("access log was not read, the file in the state folder has the rest", left_out=count)
    return b""


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
