"""Asks a running Portway over its admin address."""

import json
import urllib.error
import urllib.request
from http.client import HTTPException

import click

TIMEOUT_S = 30
BAD_QUESTION = 400
"""What was asked cannot be answered: the reason says what to ask."""


def ask(address: str, path: str, body: bytes | None = None, *, remedy: str) -> bytes:
    """GET, or POST where there is a body. What cannot be had ends the command with a sentence.

    Args:
        remedy: what the caller can do if no Portway answers, to be put at the end of that sentence.
    """
    if not address:
        raise click.ClickException(f"the admin address is empty, so no Portway can be asked; {remedy}")
    url = f"http://{address}{path}"
    request = urllib.request.Request(url, data=body, headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - http by construction
            content: bytes = answer.read()
            return content
    except urllib.error.HTTPError as error:
        reason = _reason(error.read())
        if not reason:
            raise click.ClickException(f"{address} answers {error.code}, as no Portway does; {remedy}") from error
        if error.code == BAD_QUESTION:  # as it is told where files or a cluster are asked
            raise click.UsageError(reason) from error
        raise click.ClickException(f"{address} answered {error.code}: {reason}") from error
    except (urllib.error.URLError, OSError, ValueError, HTTPException) as error:
        cause = getattr(error, "reason", error)
        cause = getattr(cause, "strerror", None) or cause
        raise click.ClickException(f"no Portway answers at {address}: {cause}; {remedy}") from error


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:200]
