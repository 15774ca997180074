"""`portway status`: what a running Portway has, per object and per proxy."""

from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from portway.app.status import Status
from portway.cli.live import ask
from portway.cli.options import Output, output_option, paint, read_settings, setting_options
from portway.status.shapes import ConditionStatus, KubernetesStatus

BAD_IF_TRUE = frozenset({"Conflicted", "OverlappingTLSConfig", "PartiallyInvalid", "InsecureFrontendValidationMode"})
"""Conditions of Gateway API whose `True` is the trouble."""


@click.command(short_help="Show the state of the running Portway.")
@setting_options("admin")
@click.option("--all", "everything", is_flag=True, help="Show objects that are all right too.")
@output_option
def status(everything: bool, output: str, settings_file: Path | None, **flags: object) -> None:
    """Show the state of the running Portway: sources, objects with their conditions, proxies and what they hold."""
    settings = read_settings(flags, settings_file)
    body = ask(settings.admin.admin_address, "/api/v1/status", remedy="name the --admin-address of one that runs")
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
    for proxy in found.proxies:
        state = f"{proxy.held} of {proxy.wanted} resources acknowledged"
        click.echo(f"  proxy {proxy.name} (fleet {proxy.fleet}): {state}, {proxy.refused} refused")
    for refusal in found.refusals:
        click.echo(f"  {paint('refused', 'red')} {refusal.resource}: {refusal.message}")
        click.echo(f"      declared by {', '.join(refusal.origins) or 'Portway itself'}")
    for process in found.processes:
        click.echo(f"  envoy {process.fleet}: {process.state}, pid {process.pid}, {process.restarts} restarts")
    for one in found.reports:
        shown = [
            (about, condition)
            for about, condition in conditions_of(one.status)
            if everything or not _is_good(condition)
        ]
        if not everything and not shown and not one.remarks:
            continue
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
