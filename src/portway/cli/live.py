"""Asks a running Portway over its admin address."""

import json
import urllib.error
import urllib.request

import click

TIMEOUT_S = 30


def ask(address: str, path: str, body: bytes | None = None) -> bytes:
    """GET, or POST where there is a body. What cannot be had ends the command with a sentence that says what to do."""
    url = f"http://{address}{path}"
    request = urllib.request.Request(url, data=body, headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - http by construction
            content: bytes = answer.read()
            return content
    except urllib.error.HTTPError as error:
        raise click.ClickException(f"{address} answered {error.code}: {_reason(error.read())}") from error
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise click.ClickException(
            f"no Portway answers at {address}: {getattr(error, 'reason', error)}; name its --admin-address, "
            "or give files with -f"
        ) from error


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:200]
