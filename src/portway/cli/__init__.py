"""The commands; one module each."""

import click

from portway.cli.check import check
from portway.cli.completion import completion
from portway.cli.diff import diff
from portway.cli.explain import explain
from portway.cli.run import run
from portway.cli.status import status
from portway.cli.version import version

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "auto_envvar_prefix": None}


@click.group(context_settings=CONTEXT)
def main() -> None:
    """Portway: Ingress and Gateway API on Envoy, without reloads.

    Begin with `portway run -f FOLDER`; `portway check -f FOLDER` says what would not work, `portway explain GET
    http://host/path -f FOLDER` where a request goes and why.
    """


for command in (run, check, explain, diff, status, version, completion):
    main.add_command(command)
