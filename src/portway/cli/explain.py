"""`portway explain`: where a request goes, and why."""

import asyncio
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec

from portway.app.checking import STDIN
from portway.app.compiler import compile_files
from portway.app.explaining import explained
from portway.cli import cluster
from portway.cli.left_out import tell_left_out
from portway.cli.live import ask
from portway.cli.options import (
    COMPILING,
    COMPILING_EPILOG,
    Output,
    output_option,
    paint,
    setting_options,
)
from portway.cli.progress import ProgressLine
from portway.explain.fleets import Asked, UnknownFleet
from portway.explain.report import Report, Result
from portway.explain.request import Request, RequestError, make_request
from portway.explain.trace import World
from portway.settings import Settings


@click.command(epilog=COMPILING_EPILOG, short_help="Say where a request goes and why.")
@click.argument("method")
@click.argument("url")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Field of the request.")
@click.option("--tls", is_flag=True, help="The request comes over TLS although the URL says http.")
@click.option("--sni", metavar="NAME", help="Server name of the TLS connection, if not the URL's host.")
@click.option("--client", default="127.0.0.1", show_default=True, help="Address of the client.")
@click.option("--listen-address", default="", help="Address the request arrives at, where the port is open on several.")
@cluster.fleet_options
@setting_options(
    "sources",
    "edge",
    "admin",
    shown=("filenames", "admin_address", *cluster.SHOWN, *COMPILING),
    fields=cluster.FIELDS,
)
    words=cluster.WORDS,
@cluster.namespace_option
@output_option
def explain(
    method: str,
    url: str,
    headers: tuple[str, ...],
    tls: bool,
    sni: str | None,
    client: str,
    listen_address: str,
    gateway: str,
    of_class: str,
    namespace: str,
    output: str,
    settings_file: Path | None,
    **flags: object,
) -> None:
    """Say where a request goes and why: listener, host, every route that was tried and why it lost, filters, upstream.

    With -f the files are asked, with --context or --kubeconfig the objects of that cluster (and -f as if applied
    there), otherwise the Portway that runs at --admin-address. Where each Gateway has proxies of its own, the URL's
    host or --listen-address may be an address of theirs; else say --gateway or --class.

    \b
    portway explain GET http://shop.example/cart -f manifests/
    portway explain POST https://shop.example/pay -H 'x-canary: always'
    portway explain GET https://shop.example/pay --context prod --gateway shop/web
    """
    settings, asks_cluster = cluster.read_cluster_settings(flags, settings_file, namespace=namespace)
    if tls and url.startswith("http://"):
        url = "https://" + url.removeprefix("http://")
    if listen_address:
        _check_address("--listen-address", listen_address)
    _check_address("--client", client)
    try:
        request = make_request(method, url, _fields(headers), client=client, server_name=sni)
    except RequestError as error:
        raise click.UsageError(str(error)) from error
    for name in settings.sources.filenames:
        if name != STDIN and not Path(name).exists():
            raise click.UsageError(f"{name}: there is no such file or folder; create it, or correct the path")
    asked = Asked(gateway=gateway, ingress_class=of_class, address=listen_address, dialled=_host_of(url))
    try:
        report = _explain(settings, request, asked, namespace, asks_cluster=asks_cluster)
    except UnknownFleet as error:
        raise click.UsageError(str(error)) from error
    if output == Output.JSON:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        show(report)


def _explain(settings: Settings, request: Request, asked: Asked, namespace: str, *, asks_cluster: bool) -> Report:
    if asks_cluster:
        from portway.app.cluster_explaining import explain_cluster  # late: who asks files needs none of it

        return cluster.ask_cluster(
            settings,
            lambda client: explain_cluster(
                client, settings, request, asked, namespace=namespace, show=ProgressLine().show, tell=cluster.tell
            ),
        )
    if settings.sources.filenames:
        return asyncio.run(_explain_files(settings, request, asked))
    body = msgspec.json.encode({"request": request, **msgspec.structs.asdict(asked)})
    remedy = "give files with -f, a cluster with --context, or name the --admin-address of one that runs"
    answer = ask(settings.admin.admin_address, "/api/v1/explain", body, remedy=remedy)
    return msgspec.json.decode(answer, type=Report)


def _host_of(url: str) -> str:
    return urlsplit(url).hostname or ""


def _check_address(option: str, address: str) -> None:
    try:
        ip_address(address)
    except ValueError:
        raise click.UsageError(f'{option}: "{address}" is not an IP address') from None


def _fields(headers: tuple[str, ...]) -> list[tuple[str, str]]:
    fields: list[tuple[str, str]] = []
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise click.UsageError(f'-H "{header}" is not of the form NAME: VALUE')
        fields.append((name.strip(), value.strip()))
    return fields


async def _explain_files(settings: Settings, request: Request, asked: Asked) -> Report:
    files = settings.sources.filenames
    engine, source = await compile_files(files, settings, outputs=(), show=ProgressLine().show)
    engine.settle()
    tell_left_out(engine.store)
    world = World(engine)
    return explained(world, request, asked, {}, source.locate)


def show(report: Report) -> None:
    """Print for a reader."""
    click.echo(report.request)
    for word, value in (
        ("at", report.fleet),
        ("listener", report.listener),
        ("chain", report.chain),
        ("table", report.table),
        ("host", report.virtual_host),
    ):
        if value:
            click.echo(f"  {word:<9} {value}")
    if report.routes:
        click.echo("  routes, in the order in which they are tried")
    for step in report.routes:
        if step.guard and not step.matched:
            continue  # nobody declared it, and it did nothing
        mark = paint("✓", "green") if step.matched else paint("✗", "red")
        guard = f"  keeps off {step.guard}" if step.guard else ""
        reason = f"  {step.reason}" if step.reason else ""
        click.echo(f"    {mark} {step.route}{guard}{reason}")
        click.echo(f"        {step.place}")
    for result in report.results:
        _show_result(result)
    if report.applied:
        click.echo("  on the way")
    place = ""
    for applied in report.applied:
        by = str(applied.place or "default")
        if by != place:
            place = by
            click.echo(f"    by {place}")
        click.echo(f"      {applied.what}: {applied.text}")
    for hint in report.hints:
        click.echo(f"  {paint('hint:', 'yellow')} {hint}")


def _show_result(result: Result) -> None:
    share = "" if result.share >= 1 else f" {result.share:.1%}"
    click.echo(f"  {paint('→', 'cyan')}{share} {result.text}")
    if result.place is not None:
        click.echo(f"      by {result.place}")
    if result.endpoints:
        shown = ", ".join(result.endpoints[:10]) + (" ..." if len(result.endpoints) > 10 else "")
        click.echo(f"      endpoints ({len(result.endpoints)}): {shown}")
    if result.note:
        click.echo(f"      {result.note}")
