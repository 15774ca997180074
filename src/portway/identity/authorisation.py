"""Which fleets a certificate opens: those whose proxies run under the ServiceAccount that it names, nothing else."""

from collections.abc import Callable, Iterable
from typing import Protocol, final

from portway.identity.contract import parse_workload_id
from portway.identity.issuer import Owner


class Peer(Protocol):
    """What is needed of `portway.xds.server.Peer`."""

    @property
    def fleet(self) -> str: ...

    @property
    def identities(self) -> tuple[bytes, ...]: ...


def workload_of(identities: Iterable[bytes]) -> Owner | None:
    """Whom a certificate's names speak of; `None`: nobody, or more than one."""
    found = [parse_workload_id(name.decode(errors="replace")) for name in identities]
    workloads = [Owner(namespace=one[0], service_account=one[1]) for one in found if one is not None]
    return workloads[0] if len(workloads) == 1 else None


@final
class FleetAuthorization:
    """Looked up at each connection, so a fleet that goes to another ServiceAccount is closed for the former one.

    Args:
        owner: of a fleet; `None`: no such fleet is known here (yet), and nobody has it.
    """

    def __init__(self, owner: Callable[[str], Owner | None]) -> None:
        self._owner = owner

    def __call__(self, peer: Peer) -> bool:
        """`portway.xds.server.Authorize`."""
        workload = workload_of(peer.identities)
        return workload is not None and workload == self._owner(peer.fleet)
