"""`portway status`: what a running Portway has, per object and per proxy."""

import click
import msgspec

from portway.app.status import ConditionStatus, Status
from portway.cli.live import ask
from portway.cli.options import Output, output_option, paint, read_settings, setting_options

BAD_IF_TRUE = frozenset({"Conflicted", "OverlappingTLSConfig", "PartiallyInvalid", "InsecureFrontendValidationMode"})
"""Conditions of Gateway API whose `True` is the trouble."""


@click.command()
@setting_options("admin", only=("admin_address",))
@click.option("--all", "everything", is_flag=True, help="Show objects that are all right too.")
@output_option
def status(everything: bool, output: str, settings_file: object, **flags: object) -> None:
    """Show the state of the running Portway: sources, objects with their conditions, proxies and what they hold."""
    del settings_file
    settings = read_settings(flags, None)
    body = ask(settings.admin.admin_address, "/api/v1/status")
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
        bad = [condition for condition in one.conditions if not _is_good(condition)]
        if not everything and not bad and not one.remarks:
            continue
        click.echo(f"  {one.object}")
        for condition in one.conditions if everything else bad:
            value = paint(str(condition.status), "green" if _is_good(condition) else "red")
            message = f": {condition.message}" if condition.message else ""
            parent = f" [{condition.parent}]" if condition.parent else ""
            click.echo(f"      {condition.type}={value} {condition.reason}{parent}{message}")
        for remark in one.remarks:
            click.echo(f"      {remark}")


def _is_good(condition: ConditionStatus) -> bool:
    return condition.status != (condition.type in BAD_IF_TRUE)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
