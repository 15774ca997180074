"""Backends that name the proxies' own machine.

A Backend can name a Unix socket, a loopback or a link-local address, which no Service can: Kubernetes takes no such
address in an EndpointSlice. On the proxies' machine these are

- *Portway's own*: the sockets in the state folder (xDS hands out private keys, Envoy's admin interface obeys everybody)
  and the admin address. Nobody ever means them: refused always.
- *the machine's*: whatever else listens there, and a cloud's metadata (169.254.169.254), which hands out credentials
  of the machine. Who writes the files of `portway run` may do all that anyway, and wants to proxy to local servers.
  Who may write Backends in a namespace of a cluster may not: with `local-backends` at `auto` a Backend that came
  through an API server (it has a uid) names no such place, nor does any where the proxies run in a cluster.

A Backend with one such place gets no requests at all: it fails closed with 503. Not here: DNS names of others that
resolve to such addresses, which nobody knows before Envoy asks (the API takes any Host but ours for a page's, see
`admin/guard.py`; a network policy helps against the rest); Envoy's own listeners, since one may be in front of another
on purpose; symbolic links, which only somebody on the machine can make.

Source: Kubernetes, `ValidateNonSpecialIP`; Envoy Gateway draws the same lines: no local Backends, but on host
infrastructure.
"""

from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from posixpath import normpath
from typing import NamedTuple

from portway.incremental import Context
from portway.model.checks import is_this_machine
from portway.model.handles import EDGE, INFRASTRUCTURE, OWN_PLACES
from portway.model.local import OwnPlaces
from portway.objects.portway_v1alpha1 import Backend, BackendSpec
from portway.objects.verdict import ObjectKey, Severity, Verdict

REASON = "NotPermitted"
YES, NO = "yes", "no"


class _Place(NamedTuple):
    field: str
    host: str = ""
    port: int = 0
    path: str = ""


def refusals(ctx: Context, backend: Backend) -> tuple[Verdict, ...]:
    """Why a Backend may not be sent requests, one per place that it may not name; empty: it may."""
    own = ctx.read(OWN_PLACES, None)
    wanted = ctx.read(EDGE, None).local_backends
    trusted = not backend.metadata.uid and ctx.read(INFRASTRUCTURE, None).is_host
    allowed = wanted == YES or (wanted != NO and trusted)
    key = ObjectKey("Backend", backend.metadata.namespace, backend.metadata.name)
    return tuple(_judged(key, _places(backend.spec), own, allowed=allowed))


def _places(spec: BackendSpec) -> Iterator[_Place]:
    if spec.unix_socket is not None:
        # `//` in front is a place of its own to POSIX, but not to Linux.
        yield _Place("spec.unixSocket.path", path="/" + normpath(spec.unix_socket.path).lstrip("/"))
    if spec.dns is not None:
        yield _Place("spec.dns.name", spec.dns.name, spec.dns.port)
    for index, entry in enumerate(spec.addresses or ()):
        yield _Place(f"spec.addresses[{index}].address", entry.address, entry.port)


def _judged(key: ObjectKey, places: Iterable[_Place], own: OwnPlaces, *, allowed: bool) -> Iterator[Verdict]:
    for place in places:
        if _is_own(place, own):
            problem = f"{place.path or f'{place.host} port {place.port}'} is Portway's own"
            remedy = "name what the backend itself listens on"
        elif not allowed and (place.path or is_this_machine(place.host)):
            problem = f"{place.path or place.host} is on the machine of the proxies, which --local-backends forbids"
            remedy = "name another machine, or run with --local-backends=yes if every author of a Backend may reach it"
        else:
            continue
        yield Verdict(
            object=key,
            severity=Severity.ERROR,
            reason=REASON,
            field=place.field,
            problem=f"{problem}; requests to the backend answer 503",
            remedy=remedy,
        )


def _is_own(place: _Place, own: OwnPlaces) -> bool:
    if place.path:
        # Below /proc are the working folder and the open files of Envoy, by other names.
        return any(place.path.startswith(f"{folder.rstrip('/')}/") for folder in (*own.folders, "/proc"))
    if not own.admin_port or place.port != own.admin_port:
        return False
    # An admin address of all interfaces is on the loopback too.
    return _plain(place.host) == _plain(own.admin_host) or (
        is_this_machine(place.host) and is_this_machine(own.admin_host)
    )


def _plain(host: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        return host.rstrip(".").lower()
    return str(getattr(address, "ipv4_mapped", None) or address)
