"""`portway run`"""

import asyncio
import sys
from pathlib import Path

import click

from portway.app.run import Console
from portway.app.run import run as run_portway
from portway.cli.access_lines import readable_lines
from portway.cli.options import has_colours, read_settings, setting_options
from portway.cli.progress import ProgressLine
from portway.infra.binary import EnvoyUnusable
from portway.infra.state import StateFolderError
from portway.telemetry.logs import set_up_logs


@click.command()
@setting_options("sources", "edge", "host", "admin", "logs")
def run(settings_file: Path | None, **flags: object) -> None:
    """Serve what files declare: start Envoy, program it, follow every change.

    \b
    portway run -f manifests/ --http-port 8080 --https-port 8443

    Ends with 0 after SIGTERM or Ctrl-C, when requests have drained.
    """
    settings = read_settings(flags, settings_file)
    if not settings.sources.filenames:
        raise click.UsageError("give at least one -f PATH: a file, a folder, or - for standard input")
    set_up_logs(settings.logs.log_level, settings.logs.log_format)
    try:
        asyncio.run(run_portway(settings, _console(settings.logs.log_format)))
    except* (StateFolderError, EnvoyUnusable, OSError) as group:
        for error in _leaves(group):
            click.echo(f"portway run: {error}", err=True)
        sys.exit(1)


def _console(log_format: str) -> Console:
    human = log_format == "human" or (log_format == "auto" and sys.stdout.isatty())
    return Console(
        say=lambda text: click.echo(text, err=True),
        show=ProgressLine().show,
        access_log=_print_readable if human else _print_lines,
    )


def _print_lines(lines: bytes) -> None:
    sys.stdout.buffer.write(lines)
    sys.stdout.buffer.flush()


def _print_readable(lines: bytes) -> None:
    _print_lines(readable_lines(lines, colours=has_colours()).encode())


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
