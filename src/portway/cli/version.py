"""`portway version`"""

import click

import portway
from portway.cli.options import Output, output_option
from portway.infra.binary import find_envoy


@click.command(short_help="Print the versions of Portway and Envoy.")
@output_option
def version(output: str) -> None:
    """Print the versions of Portway and of the Envoy that it brings."""
    binary = find_envoy()
    if output == Output.JSON:
        import json

        click.echo(json.dumps({"portway": portway.__version__, "envoy": binary.build}))
        return
    click.echo(f"portway {portway.__version__}")
    click.echo(f"envoy {binary.build} ({binary.path})")
