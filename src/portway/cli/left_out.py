"""What files hold and commands that compile them do not take: an answer that does not tell of it would mislead."""

import click

from portway.app.checking import make_remark
from portway.objects.verdict import Severity
from portway.store import Store

SHOWN = 10
"""So many are told; `portway check` tells all."""


def tell_left_out(store: Store) -> None:
    """Print files and objects that could not be taken to standard error."""
    remarks = [
        make_remark(finding.verdict, finding.file, finding.line)
        for finding in store.findings()
        if finding.verdict.severity is Severity.ERROR
    ]
    for remark in remarks[:SHOWN]:
        click.echo(f"left out: {remark.place}: {remark.text}", err=True)
    if len(remarks) > SHOWN:
        click.echo(f"left out: {len(remarks) - SHOWN:,} more, which portway check tells", err=True)
