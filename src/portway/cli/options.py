"""Options that several commands share; those of settings follow from the settings tree."""

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import click
import yaml
from click.decorators import FC

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
"""Settings that commands which only compile show in their help; the others come from the environment or the file."""


def setting_options(*branches: str, only: Iterable[str] = ()) -> Callable[[FC], FC]:
    """Options for the settings of some branches.

    Args:
        only: fields to show; empty: all.
    """

    def decorate(command: FC) -> FC:
        chosen = [one for one in all_settings() if one.branch in branches and (not only or one.field in only)]
        for setting in reversed(chosen):
            command = _option(setting)(command)
        file = click.option(
            "--settings",
            "settings_file",
            envvar="PORTWAY_SETTINGS",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="YAML file of settings; keys are the names of these options.",
        )
        return file(command)

    return decorate


def _option(setting: Setting) -> Callable[[FC], FC]:
    default = setting.default
    shown = "" if default in ("", (), frozenset()) else f"  [default: {_show(default)}]"
    names = [f"--{setting.name}", setting.field]
    if setting.type is bool:
        return click.option(
            f"--{setting.name}/--no-{setting.name}", setting.field, default=None, help=setting.help + shown
        )
    if setting.field in SHORT:
        names.insert(0, SHORT[setting.field])
    return click.option(
        *names,
        multiple=setting.is_many,
        metavar=METAVARS.get(setting.field, "VALUE"),
        help=setting.help + shown,
    )


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
