"""Access log records for a person at a terminal: one short line each. Everywhere else they stay JSON."""

from collections.abc import Mapping

import click
import msgspec

COLOURS = {"2": "green", "3": "cyan", "4": "yellow", "5": "red"}
"""By the first digit of the status."""


def printable(text: str) -> str:
    """Without anything that a terminal would obey: whoever sends a request chooses what is in it."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def readable_line(record: bytes, *, colours: bool) -> str:
    """A record of `envoy/access_log.py` as a line without its break; what is no such record, as it is.

    An answer that no upstream gave shows Envoy's reason instead (`route_not_found`).
    """
    try:
        fields = msgspec.json.decode(record, type=dict[str, object])
    except msgspec.DecodeError:
        return printable(record.decode(errors="replace"))
    line = _request(fields, colours) if "method" in fields else _connection(fields)
    return printable(line) if not colours else line


def _text(fields: Mapping[str, object], name: str) -> str:
    return printable(str(fields.get(name, "")))


def _when(fields: Mapping[str, object]) -> str:
    return _text(fields, "time").partition("T")[2].rstrip("Z") or "-"


def _request(fields: Mapping[str, object], colours: bool) -> str:
    status = _text(fields, "status") or "-"
    shown = click.style(status, fg=COLOURS.get(status[0])) if colours else status
    scheme = "https" if "tls" in fields else "http"
    url = f"{scheme}://{_text(fields, 'authority')}{_text(fields, 'path')}"
    route = f" ({_text(fields, 'route')})" if "route" in fields else ""
    return f"{_when(fields)} {shown} {_text(fields, 'method')} {url} → {_goal(fields)}{route}"


def _connection(fields: Mapping[str, object]) -> str:
    name = f" {_text(fields, 'server_name')}" if "server_name" in fields else ""
    size = f"{_text(fields, 'bytes_received')} bytes in, {_text(fields, 'bytes_sent')} out"
    return f"{_when(fields)} connection of {_text(fields, 'client')}{name} → {_goal(fields)}, {size}"


def _goal(fields: Mapping[str, object]) -> str:
    took = f"{_text(fields, 'duration_ms')} ms"
    if "upstream_address" in fields:
        return f"{_text(fields, 'upstream')} at {_text(fields, 'upstream_address')}, {took}"
    return f"{_text(fields, 'details') or 'nobody'}, {took}"


def readable_lines(records: bytes, *, colours: bool) -> str:
    """Several records, each with its line break."""
    return "".join(f"{readable_line(record, colours=colours)}\n" for record in records.splitlines())
