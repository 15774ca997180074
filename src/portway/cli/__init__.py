"""The commands; one module each, imported when it is asked for: what only others need costs a start nothing."""

from importlib import import_module

import click

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "auto_envvar_prefix": None}
COMMANDS = ("run", "proxy", "check", "explain", "diff", "status", "version", "completion")


class _Commands(click.Group):
    """A command `name` is the function `name` of the module `portway.cli.name`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"portway.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101 - else a module lacks its command
        return command


@click.group(cls=_Commands, context_settings=CONTEXT)
def main() -> None:
    """Portway: Ingress and Gateway API on Envoy, without reloads.

    Begin with `portway run -f FOLDER`; `portway check -f FOLDER` says what would not work, `portway explain GET
    http://host/path -f FOLDER` where a request goes and why.
    """
