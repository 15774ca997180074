"""`portway completion`"""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    portway completion bash > ~/.local/share/bash-completion/completions/portway
    portway completion zsh > "${fpath[1]}/_portway"
    portway completion fish > ~/.config/fish/completions/portway.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click knows the three shells of the choice
    script = kind(context.find_root().command, {}, "portway", "_PORTWAY_COMPLETE")
    click.echo(script.source())
