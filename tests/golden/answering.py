"""The requests of `answers.yaml`, answered by `explain` in the words of that file (see README.md)."""

from collections.abc import Mapping, Sequence
from typing import cast

from portway.explain.request import Request, make_request
from portway.explain.trace import Explanation, Outcome, World, explain
from portway.model.names import SocketKey, Transport
from portway.model.route import WeightedUpstream
from tests.golden import particulars
from tests.golden.compiled import Entry

METHODS = ("get", "head", "post", "put", "delete", "options", "patch", "connect", "trace")
ANSWERED = (
    "from",
    "status",
    "location",
    "closed",
    "upstream_path",
    "upstream_host",
    "upstream_headers",
    "response_headers",
    *particulars.WORDS,
)
GIVEN = frozenset({*METHODS, "headers", "client", "tls", "address", "tcp", "udp", "plain"})
"""The words that name the request."""


def expected_of(entry: Entry) -> dict[str, object]:
    """What an entry expects.

    Raises:
        ValueError: nobody knows one of its words.
    """
    expected = {word: value for word, value in entry.items() if word not in GIVEN}
    if unknown := expected.keys() - set(ANSWERED):
        raise ValueError(f"{dict(entry)}: no such words: {', '.join(sorted(unknown))}")
    if "location" in expected:
        expected["location"] = same_location(expected["location"])
    return expected


def same_location(url: object) -> object:
    """A Location without the port that its scheme has anyway (RFC 3986 §6.2.3): a proxy may write it."""
    if not isinstance(url, str):
        return url
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    port = {"http": ":80", "https": ":443"}.get(scheme, "")
    return f"{scheme}://{authority.removesuffix(port)}{slash}{path}" if port else url


def explained(world: World, entry: Entry) -> Explanation:
    """The explanation of an entry's HTTP request, or of the connection of its stream."""
    return explain(world, _request(entry), str(entry.get("address", "")))


def _request(entry: Entry) -> Request:
    method, url = _url(entry)
    fields = cast("Mapping[str, object]", entry.get("headers", {}))
    return make_request(
        method,
        url,
        [(name, str(value)) for name, value in fields.items()],
        client=str(entry.get("client", "127.0.0.1")),
        server_name=cast("str | None", entry.get("tls")),
    )


def _url(entry: Entry) -> tuple[str, str]:
    if "tcp" in entry:
        return "GET", f"{'https' if 'tls' in entry else 'http'}://{entry['tcp']}/"
    method = next(name for name in METHODS if name in entry)
    return method, str(entry[method])


def answer(world: World, entry: Entry) -> dict[str, object]:
    """What happens, in the words of `answers.yaml`."""
    if "udp" in entry:
        return _datagram(world, entry)
    said = _said(explained(world, entry).outcomes)
    if any(word in entry for word in particulars.WORDS):
        said.update(particulars.particulars(world, _request(entry)))
    return said


def _said(outcomes: Sequence[Outcome]) -> dict[str, object]:
    shares: dict[object, float] = {}
    for outcome in outcomes:
        name = name_of(outcome)
        shares[name] = round(shares.get(name, 0) + outcome.share, 6)
    if set(shares) == {"closed"}:
        return {"closed": True}
    said: dict[str, object] = {}
    only = next(iter(shares))
    if len(shares) > 1:
        said["from"] = shares
    else:
        said["status" if isinstance(only, int) else "from"] = only
    for word, values in (
        ("location", [same_location(outcome.location or None) for outcome in outcomes]),
        ("upstream_path", [outcome.target or None for outcome in outcomes]),
        ("upstream_host", [outcome.host or None for outcome in outcomes]),
        ("upstream_headers", [joined(outcome.request_headers) for outcome in outcomes]),
        ("response_headers", [joined(outcome.response_headers) for outcome in outcomes]),
    ):
        if all(value == values[0] for value in values):
            said[word] = values[0]
        else:
            said[word] = {name_of(outcome): value for outcome, value in zip(outcomes, values, strict=True)}
    return said


def name_of(outcome: Outcome) -> object:
    """Who answers: the name of a Service or Backend, a status, or `closed`."""
    if outcome.upstream is not None:
        # A case may leave out endpoints; what stands for a Service without them is not its point.
        return outcome.upstream.name
    return outcome.status or "closed"


def joined(fields: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Fields by name, several values with commas."""
    found: dict[str, str] = {}
    for name, value in fields:
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _datagram(world: World, entry: Entry) -> dict[str, object]:
    socket = udp_socket(world, entry)
    listener = world.listener(socket) if socket is not None else None
    if listener is None or listener.udp is None:
        return {"closed": True}
    shares = _shares(listener.udp.upstreams)
    if set(shares) <= {"closed"}:
        return {"closed": True}
    return {"from": next(iter(shares)) if len(shares) == 1 else shares}


def udp_socket(world: World, entry: Entry) -> SocketKey | None:
    """The socket that an entry's datagram arrives at."""
    port = int(str(entry["udp"]).rpartition(":")[2])
    address = str(entry.get("address", ""))
    fitting = (key for key in world.sockets if key.transport is Transport.UDP and key.port == port)
    return next((key for key in fitting if address in ("", key.address)), None)


def _shares(upstreams: tuple[WeightedUpstream, ...]) -> dict[str, float]:
    total = sum(each.weight for each in upstreams)
    return {(each.upstream.name if each.upstream else "closed"): each.weight / total for each in upstreams}
