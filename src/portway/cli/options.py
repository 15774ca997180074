"""Options that several commands share; those of settings follow from the settings tree."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

import click
import yaml
from click.decorators import FC

from portway.setting_checks import CHOICES
from portway.settings import Setting, Settings, SettingsError, all_settings, make_settings

SHORT = {"filenames": "-f"}
METAVARS = {
    "filenames": "PATH",
    "kubeconfig": "FILE",
    "context": "NAME",
    "infrastructure": "host|kubernetes",
    "http_port": "N",
    "https_port": "N",
    "bind_addresses": "ADDR",
    "admin_address": "HOST:PORT",
    "state_dir": "DIR",
    "control_planes": "HOST:PORT",
    "identity_services": "HOST:PORT",
    "discovery_address": "HOST:PORT",
    "health_address": "HOST:PORT",
    "authorities": "FILE",
    "token": "FILE",
    "xds_certificate": "FILE",
    "xds_key": "FILE",
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

NOTHING: Mapping[str, object] = {}
NO_WORDS: Mapping[str, str] = {}
PLACES = frozenset(
    {"filenames", "state_dir", "envoy_binary", "access_log", "authorities", "token", "xds_certificate", "xds_key"}
)
"""Settings that are paths: shells complete them."""


def setting_options(
    *branches: str, shown: Iterable[str] = (), fields: Iterable[str] = (), words: Mapping[str, str] = NO_WORDS
) -> Callable[[FC], FC]:
    """Options for the settings of some branches.

    Args:
        shown: fields that the help shows; empty: all.
        fields: of other branches, beside them.
        words: help by field where a setting's own does not fit the command, with its default.
    """
    single = frozenset(fields)

    def decorate(command: FC) -> FC:
        chosen = [one for one in all_settings() if one.branch in branches or one.field in single]
        for setting in reversed(chosen):
            hidden = bool(shown) and setting.field not in shown
            command = _option(setting, words.get(setting.field, ""), hidden=hidden)(command)
        file = click.option(
            "--settings",
            "settings_file",
            envvar="PORTWAY_SETTINGS",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="YAML file of settings; keys are the names of these options.",
        )
        return file(command)

    return decorate


def _option(setting: Setting, words: str, *, hidden: bool) -> Callable[[FC], FC]:
    default = setting.default
    text = words or setting.help + ("" if default in ("", (), frozenset()) else f"  [default: {_show(default)}]")
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


def read_settings(
    flags: dict[str, object], settings_file: Path | None, beneath: Mapping[str, object] = NOTHING
) -> Settings:
    """Join flags, environment and file; a mistake ends the command with exit code 2.

    Args:
        beneath: values by setting name where none of these says one.
    """
    file: dict[str, object] = {}
    if settings_file is not None:
        try:
            text = settings_file.read_text()
            _refuse_doubled(settings_file, text)
            loaded = yaml.safe_load(text)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            place = f"{settings_file}:{mark.line + 1}" if mark is not None else str(settings_file)
            raise click.UsageError(f"{place}: is no YAML: {error.problem}") from error
        except (yaml.YAMLError, ValueError, OSError) as error:  # a date that is none is a ValueError of YAML's
            raise click.UsageError(f"{settings_file}: cannot be read: {error}") from error
        except RecursionError as error:
            raise click.UsageError(f"{settings_file}: is nested too deep: settings are names and values") from error
        if loaded is not None and not isinstance(loaded, dict):
            raise click.UsageError(f"{settings_file}: must be a mapping of setting names to values")
        file = loaded or {}
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PORTWAY_COMPLETE") and name != "_PORTWAY_COMPLETE"
    }
    try:
        settings = make_settings(flags, environment, {**beneath, **file}, str(settings_file or ""))
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    _refuse_unknown_annotations(settings.edge.allow_unsupported)
    return settings


def _refuse_doubled(file: Path, text: str) -> None:
    """YAML says that keys are unique, its parser that the last one counts."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    lines: dict[str, int] = {}
    for key, _ in root.value if isinstance(root, yaml.MappingNode) else ():
        line = key.start_mark.line + 1
        first = lines.setdefault(str(key.value), line)
        if first != line:
            raise click.UsageError(f"{file}:{line}: {key.value} is set already in line {first}; remove one of the two")


def _refuse_unknown_annotations(names: Iterable[str]) -> None:
    """Checked here: the tree of settings knows no annotations."""
    if not names:
        return
    from portway.translate.ingress.annotations.table import NAMES

    for name in sorted(names):
        if name not in NAMES:
            near = get_close_matches(name, NAMES, 1, 0.6)
            remedy = f"did you mean {near[0]}?" if near else "write its name without the prefix, like auth-url"
            raise click.UsageError(f'allow-unsupported: "{name}" is no annotation of ingress-nginx; {remedy}')


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
