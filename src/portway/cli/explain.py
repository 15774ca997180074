"""`portway explain`: where a request goes, and why."""

import asyncio
from ipaddress import ip_address
from pathlib import Path

import click
import msgspec

from portway.app.checking import STDIN
from portway.app.compiler import compile_files
from portway.app.own_places import own_places
from portway.cli.left_out import tell_left_out
from portway.cli.live import ask
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
from portway.explain.report import Report, Result, make_report
from portway.explain.request import Request, RequestError, make_request
from portway.explain.trace import World
from portway.explain.trace import explain as follow
from portway.settings import Settings


@click.command(epilog=COMPILING_EPILOG, short_help="Say where a request goes and why.")
@click.argument("method")
@click.argument("url")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Field of the request.")
@click.option("--tls", is_flag=True, help="The request comes over TLS although the URL says http.")
@click.option("--sni", metavar="NAME", help="Server name of the TLS connection, if not the URL's host.")
@click.option("--client", default="127.0.0.1", show_default=True, help="Address of the client.")
@click.option("--listen-address", default="", help="Address the request arrives at, where the port is open on several.")
@setting_options("sources", "edge", "admin", shown=("filenames", "admin_address", *COMPILING))
@output_option
def explain(
    method: str,
    url: str,
    headers: tuple[str, ...],
    tls: bool,
    sni: str | None,
    client: str,
    listen_address: str,
    output: str,
    settings_file: Path | None,
    **flags: object,
) -> None:
    """Say where a request goes and why: listener, host, every route that was tried and why it lost, filters, upstream.

    With -f the files are asked, otherwise the Portway that runs at --admin-address.

    \b
    portway explain GET http://shop.example/cart -f manifests/
    portway explain POST https://shop.example/pay -H 'x-canary: always'
    """
    settings = read_settings(flags, settings_file)
    if tls and url.startswith("http://"):
        url = "https://" + url.removeprefix("http://")
    if listen_address:
        _check_address("--listen-address", listen_address)
    _check_address("--client", client)
    try:
        request = make_request(method, url, _fields(headers), client=client, server_name=sni)
    except RequestError as error:
        raise click.UsageError(str(error)) from error
    if settings.sources.filenames:
        for name in settings.sources.filenames:
            if name != STDIN and not Path(name).exists():
                raise click.UsageError(f"{name}: there is no such file or folder; create it, or correct the path")
        report = asyncio.run(_explain_files(settings, request, listen_address))
    else:
        body = msgspec.json.encode({"request": request, "address": listen_address})
        remedy = "give files with -f, or name the --admin-address of one that runs"
        report = msgspec.json.decode(
            ask(settings.admin.admin_address, "/api/v1/explain", body, remedy=remedy), type=Report
        )
    if output == Output.JSON:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        show(report)


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


async def _explain_files(settings: Settings, request: Request, address: str) -> Report:
    engine, source = await compile_files(
        settings.sources.filenames, settings.edge, outputs=(), own=own_places(settings), show=ProgressLine().show
    )
    engine.settle()
    tell_left_out(engine.store)
    world = World(engine)
    return make_report(world, follow(world, request, address), source.locate)


def show(report: Report) -> None:
    """Print for a reader."""
    click.echo(report.request)
    for word, value in (
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
