"""`portway check`: all verdicts, for people and for CI pipelines."""

import asyncio
import sys
from pathlib import Path

import click
import msgspec

from portway.app.checking import CheckResult, InternalError, Remark, check_files
from portway.cli import cluster
from portway.cli.options import (
    COMPILING,
    COMPILING_EPILOG,
    Output,
    output_option,
    paint,
    setting_options,
)
from portway.cli.progress import ProgressLine
from portway.objects.verdict import Severity
from portway.settings import Settings

NOT_OURS = "NotOurs"
JUDGED = frozenset({"Ingress", "Gateway"})
"""Kinds whose objects say which class they are of."""
COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "blue"}


@click.command(epilog=COMPILING_EPILOG)
@setting_options(
    "sources", "edge", shown=("filenames", *cluster.SHOWN, *COMPILING), fields=cluster.FIELDS, words=cluster.WORDS
)
@cluster.namespace_option
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings too.")
@click.option("--quiet", is_flag=True, help="Leave out what is only worth knowing.")
@output_option
def check(strict: bool, quiet: bool, output: str, namespace: str, settings_file: Path | None, **flags: object) -> None:
    """Say what would not work, before it is run.

    Each line names file and line, object and field, what is wrong with which value, what happens meanwhile, and what to
    do. With -o json the same comes as one object: objects, refused, errors, warnings and verdicts (file, line,
    severity, reason, object, kind, namespace, name, field, problem, remedy), notes.

    With --context or --kubeconfig the objects of that cluster are checked, with -n those of a namespace; -f then checks
    files as if they were applied there. Nothing is written, and rights to read what you may are enough. Files alone are
    judged as for one machine, with --infrastructure kubernetes as in a cluster.

    Exit code 0: no error; 1: an object or a file has an error (with --strict: or a warning); 2: wrong usage.

    \b
    portway check -f manifests/
    helm template shop | portway check -f - --all-classes --strict
    portway check -f manifests/ --infrastructure kubernetes
    portway check --context prod -n shop
    portway check --context prod -f shop.yaml
    """
    settings, asks_cluster = cluster.read_cluster_settings(flags, settings_file, namespace=namespace)
    if not settings.sources.filenames and not asks_cluster:
        raise click.UsageError(
            "give at least one -f PATH: a file, a folder, or - for standard input; or --kubernetes or --context for a "
            "cluster"
        )
    try:
        result = _of_cluster(settings, namespace) if asks_cluster else _of_files(settings)
    except InternalError as error:
        # Never hidden behind a green result.
        raise click.ClickException(
            f"internal error in {error}; this is a bug of Portway, not of the objects"
        ) from error
    foreign = sum(remark.reason == NOT_OURS and remark.kind in JUDGED for remark in result.verdicts)
    if quiet:
        shown = tuple(remark for remark in result.verdicts if remark.severity is not Severity.INFO)
        result = msgspec.structs.replace(result, verdicts=shown)
    if output == Output.JSON:
        click.echo(msgspec.json.format(msgspec.json.encode(result), indent=2).decode())
    else:
        for remark in result.verdicts:
            click.echo(_line(remark))
        cluster.tell_notes(result.notes)
        click.echo(_summary(result), err=True)
        if foreign:
            unchecked = f"{_counted(foreign, 'object')} of other classes not checked"
            click.echo(f"hint: {unchecked}; --all-classes checks all", err=True)
    sys.exit(1 if result.errors or (strict and result.warnings) else 0)


def _of_files(settings: Settings) -> CheckResult:
    return asyncio.run(check_files(settings.sources.filenames, settings, show=ProgressLine().show))


def _of_cluster(settings: Settings, namespace: str) -> CheckResult:
    from portway.app.cluster_checking import check_cluster  # late: who checks files needs none of it

    return cluster.ask_cluster(
        settings,
        lambda client: check_cluster(
            client, settings, namespace=namespace, paths=settings.sources.filenames, show=ProgressLine().show
        ),
    )


def _line(remark: Remark) -> str:
    place = f"{remark.place}: " if remark.place else ""
    return f"{place}{paint(f'{remark.severity}:', COLOURS[remark.severity])} {remark.text}"


def _summary(result: CheckResult) -> str:
    objects = _counted(result.objects + result.refused, "object")
    if result.refused:
        objects = f"{result.objects:,} of {objects} taken"
    return f"{objects}: {_counted(result.errors, 'error')}, {_counted(result.warnings, 'warning')}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
