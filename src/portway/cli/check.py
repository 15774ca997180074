"""`portway check`: all verdicts, for people and for CI pipelines."""

import asyncio
import sys
from collections import Counter
from pathlib import Path

import click
import msgspec

from portway.app.checking import Remark, remarks
from portway.app.compiler import REPORTS, compile_files
from portway.cli.options import COMPILING, Output, output_option, paint, read_settings, setting_options
from portway.objects.verdict import Severity
from portway.settings import Settings

COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "blue"}


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `portway check -o json` prints."""

    errors: int
    warnings: int
    objects: int
    verdicts: tuple[Remark, ...]


@click.command()
@setting_options("sources", "edge", only=("filenames", *COMPILING))
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings too.")
@click.option("--quiet", is_flag=True, help="Leave out what is only worth knowing.")
@output_option
def check(strict: bool, quiet: bool, output: str, settings_file: Path | None, **flags: object) -> None:
    """Say what would not work, before it is run.

    Exit code 0: no error; 1: an object has an error (with --strict: or a warning); 2: wrong usage.
    """
    settings = read_settings(flags, settings_file)
    if not settings.sources.filenames:
        raise click.UsageError("give at least one -f PATH: a file, a folder, or - for standard input")
    result = asyncio.run(_check(settings))
    if output == Output.JSON:
        click.echo(msgspec.json.format(msgspec.json.encode(result), indent=2).decode())
    else:
        _print(result, quiet=quiet)
    sys.exit(1 if result.errors or (strict and result.warnings) else 0)


async def _check(settings: Settings) -> CheckResult:
    engine, source = await compile_files(settings.sources.filenames, settings.edge)
    reports, _ = engine.settle().of(REPORTS)
    for failure in engine.failures():
        # A bug of ours: never hidden behind a green result.
        raise click.ClickException(f"internal error in {failure.name}({failure.key}): {failure.error}")
    found = remarks(engine.store.findings(), reports.values(), source.locate)
    count = Counter(remark.severity for remark in found)
    return CheckResult(
        errors=count[Severity.ERROR],
        warnings=count[Severity.WARNING],
        objects=sum(engine.store.statistics().objects.values()),
        verdicts=found,
    )


def _print(result: CheckResult, *, quiet: bool) -> None:
    for remark in result.verdicts:
        if quiet and remark.severity is Severity.INFO:
            continue
        text = str(remark)
        word = f"{remark.severity}: "
        click.echo(text.replace(word, paint(word, COLOURS[remark.severity]), 1))
    errors = f"{result.errors} error{'' if result.errors == 1 else 's'}"
    warnings = f"{result.warnings} warning{'' if result.warnings == 1 else 's'}"
    click.echo(f"{result.objects} objects: {errors}, {warnings}", err=True)
