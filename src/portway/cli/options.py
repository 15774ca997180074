"""Options that several commands share; those of settings follow from the settings tree."""

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import click
import yaml
from click.decorators import FC

from portway.setting_checks import CHOICES
from portway.settings import Setting, Settings, SettingsError, all_settings, make_settings

SHORT = {"filenames": "-f"}
METAVARS = {
    "filenames": "PATH",
    "http_port": "N",
    "https_port": "N",
    "bind_addresses": "ADDR",
    "admin_address": "HOST:PORT",
    "state_dir": "DIR",
}
COMPILING = (
    "all_classes",
    "allow_unsupported",
    "watch_ingress_without_class",
    "exclusive_hosts",
    "http_port",
    "https_port",
    "bind_addresses",
)
"""Settings that the help of commands which only compile shows; they take those of the whole branch."""

COMPILING_EPILOG = "All other options of `portway run` about listeners, routes and upstreams are taken too."

PLACES = frozenset({"filenames", "state_dir", "envoy_binary", "access_log"})
"""Settings that are paths: shells complete them."""


def setting_options(*branches: str, shown: Iterable[str] = ()) -> Callable[[FC], FC]:
    """Options for the settings of some branches.

    Args:
        shown: fields that the help shows; empty: all.
    """

    def decorate(command: FC) -> FC:
        chosen = [one for one in all_settings() if one.branch in branches]
        for setting in reversed(chosen):
            command = _option(setting, hidden=bool(shown) and setting.field not in shown)(command)
        file = click.option(
            "--settings",
            "settings_file",
            envvar="PORTWAY_SETTINGS",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="YAML file of settings; keys are the names of these options.",
        )
        return file(command)

    return decorate


def _option(setting: Setting, *, hidden: bool) -> Callable[[FC], FC]:
    default = setting.default
    text = setting.help + ("" if default in ("", (), frozenset()) else f"  [default: {_show(default)}]")
    names = [f"--{setting.name}", setting.field]
    if setting.type is bool:
        return click.option(
            f"--{setting.name}/--no-{setting.name}", setting.field, default=None, help=text, hidden=hidden
        )
    if setting.field in SHORT:
        names.insert(0, SHORT[setting.field])
    return click.option(
        *names,
        multiple=setting.is_many,
        metavar=METAVARS.get(setting.field, "VALUE"),
        type=click.Path() if setting.field in PLACES else None,
        shell_complete=None if setting.field in PLACES else _choices(setting.field),
        help=text,
        hidden=hidden,
    )


def _choices(field: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    allowed = CHOICES.get(field, ())
    return lambda _context, _parameter, begun: [one for one in allowed if one.startswith(begun)]


def _show(default: object) -> str:
    if isinstance(default, tuple | frozenset):
        return ", ".join(map(str, sorted(default)))
    seconds = getattr(default, "total_seconds", None)
    if seconds is not None:
        return f"{seconds():g}s"
    return str(default).lower() if isinstance(default, bool) else str(default)


def read_settings(flags: dict[str, object], settings_file: Path | None) -> Settings:
    """Join flags, environment and file; a mistake ends the command with exit code 2."""
    file: dict[str, object] = {}
    if settings_file is not None:
        try:
            loaded = yaml.safe_load(settings_file.read_text())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            place = f"{settings_file}:{mark.line + 1}" if mark is not None else str(settings_file)
            raise click.UsageError(f"{place}: is no YAML: {error.problem}") from error
        except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
            raise click.UsageError(f"{settings_file}: cannot be read: {error}") from error
        if loaded is not None and not isinstance(loaded, dict):
            raise click.UsageError(f"{settings_file}: must be a mapping of setting names to values")
        file = loaded or {}
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PORTWAY_COMPLETE") and name != "_PORTWAY_COMPLETE"
    }
    try:
        return make_settings(flags, environment, file, str(settings_file or ""))
    except SettingsError as error:
        raise click.UsageError(str(error)) from error


class Output:
    """`-o human|json`."""

    HUMAN = "human"
    JSON = "json"


def output_option(command: FC) -> FC:
    return click.option(
        "-o",
        "--output",
        type=click.Choice([Output.HUMAN, Output.JSON]),
        default=Output.HUMAN,
        help="Format of the result.",
    )(command)


def has_colours() -> bool:
    """Whether standard output is a terminal whose user wants colours (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def paint(text: str, colour: str) -> str:
    """Coloured where standard output is a terminal."""
    return click.style(text, fg=colour) if has_colours() else text
