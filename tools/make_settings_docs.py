"""Writes docs/configuration.md from the settings tree; `tests/test_docs.py` holds the page to it."""

import inspect
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from portway.settings import Setting, all_settings, branches

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"
HEAD = """\
# Configuration

Written by `make docs` from `src/portway/settings.py`; do not edit.

Every setting is a flag of `portway run`, an environment variable and a key of the settings file (`--settings FILE` or
`PORTWAY_SETTINGS`). A flag beats a variable, that beats the file, that beats the default. Settings with several values
are given by repeating the flag, with commas in a variable, or as a list in the file. Durations are written as in
Gateway API: `1h30m`, `10s`, `500ms`. An unknown key or variable is an error that names the nearest known one.

    # settings.yaml
    http-port: 8080
    https-port: 8443
    trusted-proxies: [10.0.0.0/8]
    access-log: ""

The file is followed while Portway runs ([what needs a restart](operations.md#upgrades-and-changed-settings)).
`check`, `explain` and `diff` take the same settings, so that they judge as `run` would serve.
"""


def shown(default: object) -> str:
    """A default as one would write it."""
    if isinstance(default, tuple | frozenset):
        return ", ".join(map(str, sorted(default))) or "none"
    if isinstance(default, timedelta):
        return f"{default.total_seconds():g}s"
    if isinstance(default, bool):
        return str(default).lower()
    return str(default) if default != "" else "empty"


def row(setting: Setting) -> str:
    flag = f"`--{setting.name}`" if setting.type is not bool else f"`--{setting.name}`, `--no-{setting.name}`"
    return f"| {flag} | `{setting.variable}` | {shown(setting.default)} | {setting.help.replace('|', chr(92) + '|')} |"


def page() -> str:
    """The whole page."""

    def sections() -> Iterator[str]:
        for name, kind in branches():
            yield f"\n## {(inspect.getdoc(kind) or name).rstrip('.')}\n"
            yield "| flag | variable | default | |"
            yield "|---|---|---|---|"
            yield from (row(setting) for setting in all_settings() if setting.branch == name)

    return HEAD + "\n".join(sections()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
