"""What commands need that ask about a cluster: options, the settings that follow, a client, sentences for failures."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final, TypeVar

import click
from click.decorators import FC

from portway.cli.left_out import tell_left_out
from portway.cli.options import read_settings
from portway.kubernetes.client import ApiClient
from portway.kubernetes.connection import connect
from portway.kubernetes.errors import ApiError, ApiUnreachable, ConnectionProblem
from portway.settings import Settings, reads_cluster
from portway.store import Store

T = TypeVar("T")
SHOWN: Final = ("kubernetes", "kubeconfig", "context", "infrastructure", "gateway_controller", "controller_class")
"""Settings that the help of these commands shows."""
FIELDS: Final = ("infrastructure", "system_namespace")
"""Settings of the branch `cluster` that they take."""
WORDS: Final = {
    "kubernetes": "Read the objects of a cluster: of the kubeconfig's current context, or the one of this pod.",
    "infrastructure": (
        "Where proxies run: `host`, one Envoy that serves everything, or `kubernetes`, where each Gateway and "
        "IngressClass has its own.  [default: kubernetes where a cluster is read, else host]"
    ),
}
"""Help of settings for commands that only look."""
IN_CLUSTER: Final = {"infrastructure": "kubernetes"}
"""Where a cluster is read its proxies run there, unless somebody says otherwise."""


def namespace_option(command: FC) -> FC:
    """`-n`, as kubectl has it."""
    return click.option(
        "-n",
        "--namespace",
        default="",
        metavar="NAME",
        help="Namespace of the cluster that it is about, and of objects in files that name none.",
    )(command)


def fleet_options(command: FC) -> FC:
    """Which proxies are asked about, where there are several."""
    command = click.option(
        "--class", "of_class", default="", metavar="NAME", help="Ask the proxies of this IngressClass."
    )(command)
    return click.option("--gateway", default="", metavar="NAMESPACE/NAME", help="Ask the proxies of this Gateway.")(
        command
    )


def read_cluster_settings(
    flags: dict[str, object], settings_file: Path | None, *, namespace: str
) -> tuple[Settings, bool]:
    """The settings, and whether a cluster is to be asked.

    `-n` asks the current one where neither files nor a cluster are named.
    """
    settings = read_settings(flags, settings_file)
    asks = reads_cluster(settings.sources) or bool(namespace and not settings.sources.filenames)
    if namespace and not asks:
        raise click.UsageError("-n is about a cluster: name it with --context, --kubeconfig or --kubernetes")
    return (read_settings(flags, settings_file, IN_CLUSTER) if asks else settings), asks


def ask_cluster(settings: Settings, work: Callable[[ApiClient], Awaitable[T]]) -> T:
    """Do something with a client of the cluster. What cannot be had ends the command with a sentence."""
    from portway.app.reading import NothingKnown  # late: who asks no cluster needs none of it

    try:
        return asyncio.run(_with_client(settings, work))
    except (ConnectionProblem, ApiError, ApiUnreachable, NothingKnown) as error:
        raise click.ClickException(str(error)) from error


async def _with_client(settings: Settings, work: Callable[[ApiClient], Awaitable[T]]) -> T:
    client = ApiClient(await connect(settings.sources.kubeconfig, settings.sources.context))
    try:
        return await work(client)
    finally:
        await client.close()


def tell(store: Store, notes: Iterable[str]) -> None:
    """Print to standard error what an answer about a cluster leaves out."""
    tell_notes(notes)
    tell_left_out(store)


def tell_notes(notes: Iterable[str]) -> None:
    """Print to standard error what is not known of a cluster."""
    for note in notes:
        click.echo(f"note: {note}", err=True)
