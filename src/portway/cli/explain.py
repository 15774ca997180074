"""`portway explain`: where a request goes, and why."""

import asyncio
from collections.abc import Iterator
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
from portway.explain.report import ITSELF, Place, Report, Result, TriedRoute
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
    words=cluster.WORDS,
)
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
    """Print for a reader, each fact once. Names that are Envoy's only are left to the JSON."""
    click.echo(report.request)
    chain = f" ({report.chain})" if report.chain else ""
    for word, value in (("at", report.fleet), ("listener", report.listener + chain), ("host", report.virtual_host)):
        if value:
            click.echo(f"  {word:<9} {value}")
    taken = tuple(dict.fromkeys(step.place for step in report.routes if step.matched))
    steps = [_step(step) for step in report.routes if step.matched or _has_lost(step, taken)]
    if steps:
        click.echo("  routes, in the order in which they are tried")
    for line in dict.fromkeys(steps):
        click.echo(f"    {line}")
    only = taken[0] if len(taken) == 1 else None
    for result in report.results:
        for line in _result(result, only):
            click.echo(f"  {line}")
    if report.applied:
        click.echo("  on the way")
    for line in _applied(report, only):
        click.echo(f"    {line}")
    for hint in report.hints:
        click.echo(f"  {paint('hint:', 'yellow')} {hint}")


def _has_lost(step: TriedRoute, taken: tuple[Place, ...]) -> bool:
    """Whether something that was declared did not fit. One place may lead to several routes, for preflights say."""
    return not step.guard and step.place.object != ITSELF and step.place not in taken


def _step(step: TriedRoute) -> str:
    mark = paint("✓", "green") if step.matched else paint("✗", "red")
    name = f" ({step.route})" if step.place.object == ITSELF else ""
    guard = f" keeps off {step.guard}" if step.guard else ""
    return f"{mark} {step.place}{name}{guard}" + (f": {step.reason}" if step.reason else "")


def _result(result: Result, only: Place | None) -> Iterator[str]:
    share = "" if result.share >= 1 else f" {result.share:.1%}"
    yield f"{paint('→', 'cyan')}{share} {result.text}"
    if result.place is not None and result.place != only:
        place = str(result.place)
        is_known = only is not None and only.object == result.place.object
        yield f"    by {place.removeprefix(f'{result.place.object} ') if is_known else place}"
    if result.endpoints:
        shown = ", ".join(result.endpoints[:10]) + (" ..." if len(result.endpoints) > 10 else "")
        yield f"    endpoints ({len(result.endpoints)}): {shown}"
    if result.note and result.note not in result.text:
        yield f"    {result.note}"


def _applied(report: Report, only: Place | None) -> Iterator[str]:
    """What the route does comes without its place, which stands above."""
    heading = ""
    for applied in report.applied:
        text = f"{applied.what}: {applied.text}"
        if applied.place is not None and applied.place == only:
            yield text
            continue
        by = f"by {applied.place or 'default'}"
        if by != heading:
            heading = by
            yield by
        yield f"  {text}"
