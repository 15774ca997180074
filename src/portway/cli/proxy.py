"""`portway proxy`"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import click
import structlog

from portway.app.proxy import run
from portway.cli.access_lines import readable_lines
from portway.cli.options import has_colours, read_settings, setting_options
from portway.infra.binary import EnvoyUnusable
from portway.infra.state import StateFolderError
from portway.settings import Proxy
from portway.telemetry.background import background_writer
from portway.telemetry.logs import set_up_logs

log = structlog.get_logger(__name__)


@click.command(short_help="Run one proxy whose control plane is elsewhere.")
@setting_options("proxy", "host", "logs", fields=("fleet", "zone", "max_connections"))
def proxy(settings_file: Path | None, **flags: object) -> None:
    """Run one Envoy that takes its configuration from a control plane elsewhere: what proxies' pods run.

    \b
    portway proxy --control-plane portway.portway.svc:18000 --fleet gateway/shop/public

    Ends with 0 after SIGTERM or Ctrl-C, when requests have drained; with 1 if it cannot start.
    """
    settings = read_settings(flags, settings_file)
    _check(settings.proxy)
    errors = set_up_logs(settings.logs.log_level, settings.logs.log_format, sys.stderr)
    failures: list[BaseException] = []
    try:
        asyncio.run(run(settings, _access_log(settings.logs.log_format)))
    except* (StateFolderError, EnvoyUnusable, OSError) as group:
        failures = list(leaves(group))
    if failures:
        errors.flush()
        for error in failures:
            click.echo(f"portway proxy: {error}", err=True)
        sys.exit(1)


def _check(given: Proxy) -> None:
    if not given.control_planes:
        raise click.UsageError("give at least one --control-plane HOST:PORT")
    if bool(given.xds_certificate) != bool(given.xds_key):
        raise click.UsageError("--xds-certificate and --xds-key belong together: give both, or none to use a token")


def _access_log(log_format: str) -> Callable[[bytes], None]:
    output: TextIO | None = sys.stdout  # None where it was closed
    human = log_format == "human" or (log_format == "auto" and output is not None and output.isatty())
    writer = background_writer(output, _note_unread)
    if not human:
        return writer.write
    return lambda lines: writer.write(readable_lines(lines, colours=has_colours()).encode())


def _note_unread(count: int) -> bytes:
    log.warning("access log was not read, the file in the state folder has the rest", left_out=count)
    return b""


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
