"""`portway status`: what a running Portway has, per object and per proxy; or what stands in a cluster."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import click
import msgspec

from portway.app.status import FleetsStatus, ObjectStatus, Status
from portway.cli import cluster
from portway.cli.live import ask
from portway.cli.options import Output, output_option, paint, setting_options
from portway.cli.progress import ProgressLine
from portway.settings import Settings
from portway.status.shapes import ConditionStatus, KubernetesStatus

if TYPE_CHECKING:
    from portway.app.cluster_status import ClusterStatus

BAD_IF_TRUE = frozenset({"Conflicted", "OverlappingTLSConfig", "PartiallyInvalid", "InsecureFrontendValidationMode"})
"""Conditions of Gateway API whose `True` is the trouble."""
DOORS = frozenset({"Gateway", "Ingress"})
"""Kinds of objects that have addresses."""


@click.command(short_help="Show the state of the running Portway.")
@setting_options(
    "admin", "sources", "edge", shown=("admin_address", *cluster.SHOWN), fields=cluster.FIELDS, words=cluster.WORDS
)
@cluster.namespace_option
@cluster.fleet_options
@click.option("--all", "everything", is_flag=True, help="Show objects that are all right too.")
@output_option
def status(
    everything: bool,
    output: str,
    namespace: str,
    gateway: str,
    of_class: str,
    settings_file: Path | None,
    **flags: object,
) -> None:
    """Show the state of the running Portway: sources, objects with their conditions, proxies and what they hold.

    With --context or --kubeconfig: what stands in that cluster, for whoever may read it. Gateways and Ingresses with
    their addresses, the conditions that Portway wrote and that say of trouble, and what is to be said about the objects
    as they are now.
    """
    settings, asks_cluster = cluster.read_cluster_settings(flags, settings_file, namespace=namespace)
    if settings.sources.filenames:
        raise click.UsageError("-f is nothing to ask about: portway check -f PATH judges files")
    if asks_cluster:
        if gateway or of_class:
            raise click.UsageError("--gateway and --class are about a Portway that runs; -n is about a cluster")
        _show_cluster(settings, namespace, output, everything=everything)
        return
    asked = f"?{urlencode({'gateway': gateway, 'class': of_class})}" if gateway or of_class else ""
    body = ask(
        settings.admin.admin_address,
        f"/api/v1/status{asked}",
        remedy="name the --admin-address of one that runs, or a cluster with --context",
    )
    if output == Output.JSON:
        click.echo(msgspec.json.format(body, indent=2).decode())
        return
    show(msgspec.json.decode(body, type=Status), everything=everything)


def show(found: Status, *, everything: bool) -> None:
    """Print for a reader."""
    ready = paint("ready", "green") if found.ready else paint(f"not ready: {found.not_ready_because}", "red")
    click.echo(f"portway {found.version}: {ready}")
    click.echo(f"  objects: {', '.join(f'{count} {kind}' for kind, count in found.objects.items()) or 'none'}")
    if found.errors or found.warnings:
        click.echo(f"  verdicts: {paint(_count(found.errors, 'error'), 'red')}, {_count(found.warnings, 'warning')}")
    for finding in found.findings:
        click.echo(f"      {finding}")
    if found.fleets is not None:
        click.echo(f"  fleets: {', '.join(_of_fleets(found.fleets))}")
    for proxy in found.proxies:
        state = f"{proxy.held} of {proxy.wanted} resources acknowledged"
        click.echo(f"  proxy {proxy.name} (fleet {proxy.fleet}): {state}, {proxy.refused} refused")
    for refusal in found.refusals:
        click.echo(f"  {paint('refused', 'red')} {refusal.resource}: {refusal.message}")
        click.echo(f"      declared by {', '.join(refusal.origins) or 'Portway itself'}")
    for process in found.processes:
        click.echo(f"  envoy {process.fleet}: {process.state}, pid {process.pid}, {process.restarts} restarts")
    for one in found.reports:
        _show_object(one, everything=everything)


def _of_fleets(found: FleetsStatus) -> Iterator[str]:
    yield str(found.wanted)
    for count, said in (
        (found.updating, "being updated"),
        (found.to_update, "to follow"),
        (found.failed, "not as they should be"),
        (found.held, "left as they are"),
    ):
        if count:
            yield f"{count} {said}"


def _show_cluster(settings: Settings, namespace: str, output: str, *, everything: bool) -> None:
    from portway.app.cluster_status import cluster_status  # late: who asks a running Portway needs none of it

    found = cluster.ask_cluster(
        settings, lambda client: cluster_status(client, settings, namespace=namespace, show=ProgressLine().show)
    )
    if output == Output.JSON:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    cluster.tell_notes(found.notes)
    show_cluster(found, everything=everything)


def show_cluster(found: "ClusterStatus", *, everything: bool) -> None:
    """Print for a reader."""
    click.echo(f"{found.context}: {found.server}")
    click.echo(f"  objects: {', '.join(f'{count} {kind}' for kind, count in found.objects.items()) or 'none'}")
    click.echo(f"  verdicts: {_count(found.errors, 'error')}, {_count(found.warnings, 'warning')}")
    for finding in found.findings:
        click.echo(f"      {finding}")
    doors = [one for one in found.reports if one.object.partition(" ")[0] in DOORS]
    rows = [(one.object, _state(one), _extent(one.status).strip(" ()")) for one in doors]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(2)]
    for name, state, extent in rows:
        click.echo(f"  {name:<{widths[0]}}  {state:<{widths[1]}}  {extent}".rstrip())
    if not rows:
        click.echo("  no Gateway or Ingress here is Portway's; portway check says whose they are")
    for one in found.reports:
        _show_object(one, everything=everything)


def _state(one: ObjectStatus) -> str:
    """What a Gateway says of its proxies, in a word; Ingresses say nothing."""
    for condition in one.status.conditions or ():
        if condition.type == "Programmed":
            return "programmed" if condition.status == "True" else f"not programmed ({condition.reason})"
    return "no status yet" if one.object.startswith("Gateway ") else ""


def _show_object(one: ObjectStatus, *, everything: bool) -> None:
    shown = [
        (about, condition) for about, condition in conditions_of(one.status) if everything or not _is_good(condition)
    ]
    if not everything and not shown and not one.remarks:
        return
    click.echo(f"  {one.object}{_extent(one.status) if everything else ''}")
    for about, condition in shown:
        value = paint(condition.status, "green" if _is_good(condition) else "red")
        message = f": {condition.message}" if condition.message else ""
        click.echo(f"      {condition.type}={value} {condition.reason}{about}{message}")
    for remark in one.remarks:
        click.echo(f"      {remark}")


def conditions_of(status: KubernetesStatus) -> Iterator[tuple[str, ConditionStatus]]:
    """All conditions of an object, each with what it is about if that is not the object itself."""
    yield from (("", condition) for condition in status.conditions or ())
    told = [(parent.parent_ref, parent.conditions) for parent in status.parents or ()]
    told += [(ancestor.ancestor_ref, ancestor.conditions) for ancestor in status.ancestors or ()]
    for parent, conditions in told:
        section = f" listener {parent.section_name}" if parent.section_name else ""
        port = f" port {parent.port}" if parent.port else ""
        about = f" [{parent.kind} {parent.namespace}/{parent.name}{section}{port}]"
        yield from ((about, condition) for condition in conditions)
    for listener in status.listeners or ():
        yield from ((f" [listener {listener.name}]", condition) for condition in listener.conditions)


def _extent(status: KubernetesStatus) -> str:
    """Addresses and what is attached, in parentheses; empty for kinds without."""
    told = [", ".join(address.value for address in status.addresses or ())]
    told += [f"listener {one.name}: {_count(one.attached_routes, 'route')}" for one in status.listeners or ()]
    if status.attached_listener_sets:
        told.append(_count(status.attached_listener_sets, "ListenerSet"))
    text = "; ".join(filter(None, told))
    return f" ({text})" if text else ""


def _is_good(condition: ConditionStatus) -> bool:
    return (condition.status == "True") != (condition.type in BAD_IF_TRUE)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
