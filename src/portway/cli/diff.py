"""`portway diff`: what a change does to requests."""

import asyncio
import sys
from pathlib import Path

import click
import msgspec

from portway.app.compiler import compile_files
from portway.app.fallback import make_fallback_certificate
from portway.app.own_places import own_places
from portway.cli.left_out import tell_left_out
from portway.cli.options import (
    COMPILING,
    COMPILING_EPILOG,
    Output,
    output_option,
    paint,
    read_settings,
    setting_options,
)
from portway.cli.progress import ProgressLine
from portway.explain.diff import Difference, compare
from portway.explain.trace import NOTHING_OPEN, World
from portway.settings import Settings


@click.command(epilog=COMPILING_EPILOG, short_help="Say which requests a change answers differently.")
@click.argument("before", metavar="A", type=click.Path(exists=True, allow_dash=True))
@click.argument("after", metavar="B", type=click.Path(exists=True, allow_dash=True))
@setting_options("edge", shown=COMPILING)
@output_option
def diff(before: str, after: str, output: str, settings_file: Path | None, **flags: object) -> None:
    """Say which requests are answered differently under B than under A (files or folders), with examples.

    Compares behaviour, not text: an edit that changes no request is none. Exit code 0: no request changes; 1: some do;
    2: wrong usage.
    """
    settings = read_settings(flags, settings_file)
    difference = asyncio.run(_diff(settings, before, after))
    if output == Output.JSON:
        click.echo(msgspec.json.format(msgspec.json.encode(difference), indent=2).decode())
    else:
        show(difference, (before, after))
    sys.exit(1 if difference.changes else 0)


async def _diff(settings: Settings, before: str, after: str) -> Difference:
    fallback = make_fallback_certificate()
    own = own_places(settings)
    worlds: list[World] = []
    for path in (before, after):
        engine, _ = await compile_files([path], settings.edge, fallback, outputs=(), own=own, show=ProgressLine().show)
        engine.settle()
        tell_left_out(engine.store)
        worlds.append(World(engine))
    return compare(*worlds)


def show(difference: Difference, names: tuple[str, str]) -> None:
    """Print for a reader.

    Args:
        names: what A and B were on the command line.
    """
    for change in difference.changes:
        click.echo(change.subject)
        click.echo(f"  {paint('-', 'red')} {change.before}")
        click.echo(f"  {paint('+', 'green')} {change.after}")
        if change.also:
            click.echo(f"  likewise on {', '.join(change.also)}")
    if not difference.changes:
        click.echo("no request changes")
    hosts = _counted(difference.hosts_compared, "host")
    changes = _counted(len(difference.changes), "change")
    requests = _counted(difference.requests_compared, "request")
    click.echo(f"{changes}; {hosts} with other routes, {requests} compared", err=True)
    for name, sockets in zip(names, difference.sockets, strict=True):
        if not sockets:
            click.echo(f"hint: {name}: {NOTHING_OPEN}", err=True)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
