"""`portway diff`: what a change does to requests."""

import asyncio
import sys
from pathlib import Path

import click
import msgspec

from portway.app.checking import STDIN
from portway.app.compiler import compile_files
from portway.app.fallback import make_fallback_certificate
from portway.cli import cluster
from portway.cli.left_out import tell_left_out
from portway.cli.options import (
    COMPILING,
    COMPILING_EPILOG,
    Output,
    output_option,
    paint,
    setting_options,
)
from portway.cli.progress import ProgressLine
from portway.explain.diff import Difference, compare
from portway.explain.trace import NOTHING_OPEN, World
from portway.settings import Settings


@click.command(epilog=COMPILING_EPILOG, short_help="Say which requests a change answers differently.")
@click.argument("paths", metavar="[A B]", nargs=-1, type=click.Path(exists=True, allow_dash=True))
@setting_options(
    "sources", "edge", shown=("filenames", *cluster.SHOWN, *COMPILING), fields=cluster.FIELDS, words=cluster.WORDS
)
@cluster.namespace_option
@output_option
def diff(paths: tuple[str, ...], output: str, namespace: str, settings_file: Path | None, **flags: object) -> None:
    """Say which requests are answered differently under B than under A (files or folders), with examples.

    With --context or --kubeconfig, and -f: which requests applying these files to that cluster would change. Nothing is
    written. An object of the same name is replaced; none is deleted.

    Compares behaviour, not text: an edit that changes no request is none. Exit code 0: no request changes; 1: some do;
    2: wrong usage.

    \b
    portway diff old/ new/
    portway diff --context prod -f new.yaml
    """
    settings, asks_cluster = cluster.read_cluster_settings(flags, settings_file, namespace=namespace)
    files = settings.sources.filenames
    if asks_cluster:
        if paths or not files:
            raise click.UsageError("what would be applied to the cluster is given with -f PATH, and nothing else")
        difference, names = _with_cluster(settings, namespace), ("the cluster", f"with {', '.join(files)}")
    else:
        if len(paths) != 2 or files:
            raise click.UsageError(
                "give two files or folders, A and B; or -f PATH with --context or --kubernetes for a cluster"
            )
        difference, names = asyncio.run(_diff(settings, *paths)), (paths[0], paths[1])
    if output == Output.JSON:
        click.echo(msgspec.json.format(msgspec.json.encode(difference), indent=2).decode())
    else:
        show(difference, names)
    sys.exit(1 if difference.changes else 0)


def _with_cluster(settings: Settings, namespace: str) -> Difference:
    from portway.app.cluster_explaining import diff_cluster  # late: who compares files needs none of it

    for name in settings.sources.filenames:
        if name != STDIN and not Path(name).exists():
            raise click.UsageError(f"{name}: there is no such file or folder; create it, or correct the path")
    return cluster.ask_cluster(
        settings,
        lambda client: diff_cluster(
            client,
            settings,
            settings.sources.filenames,
            namespace=namespace,
            show=ProgressLine().show,
            tell=cluster.tell,
        ),
    )


async def _diff(settings: Settings, before: str, after: str) -> Difference:
    fallback = make_fallback_certificate()
    worlds: list[World] = []
    for path in (before, after):
        engine, _ = await compile_files([path], settings, fallback, outputs=(), show=ProgressLine().show)
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
        click.echo(f"{change.subject} at {change.fleet}" if change.fleet else change.subject)
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
