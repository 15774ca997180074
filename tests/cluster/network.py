"""The network of a miniature cluster, in one network namespace of its own.

    outer namespace: API server, kubelets, LoadBalancer, DNS, and the tests that dial pods
      lo   10.240.0.1 (gateway, kubelets, DNS), 10.240.0.2 (API server)
      veth per pod and per node  ->  namespace with eth0, default route to 10.240.0.1

Every pod has a cable to the outer namespace and is routed there, without a bridge: a reply passes the same rules as
its request whatever both ends are, so destinations are translated without hiding the client's address. The addresses
of Services and LoadBalancers lie on no device; the outer namespace holds them as its own, so one without endpoints
refuses connections at once.

Nothing of it reaches the machine's own network, so every run has the same addresses, and all of it is gone with the
last process in the outer namespace. Needs root, veth and nf_tables in the kernel, and no program.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import final

import msgspec

from tests.cluster import kernel
from tests.cluster.netlink import Links
from tests.cluster.nftables import (
    Hook,
    Table,
    drop,
    goto_by,
    is_in,
    load_destination,
    load_destination_port,
    load_protocol,
    load_source,
    masquerade,
    one_of,
    pair_key,
    send_to,
    service_key,
)

GATEWAY = "10.240.0.1"
API_SERVER = "10.240.0.2"
API_SERVER_PORT = 16443
"""Not 6443: a conformance test's Gateway listens there."""

NODES = "10.240.1."
PODS = "10.244."
SERVICES = "10.97.0.0/16"
LOAD_BALANCERS = "10.250.0.0/16"

_PROTOCOLS = {"TCP": 6, "UDP": 17}


class Frontend(msgspec.Struct, frozen=True, order=True):
    """An address and port behind which a Service is."""

    address: str
    protocol: str
    """`TCP` or `UDP`."""

    port: int

    @property
    def chain(self) -> str:
        return f"{self.protocol}-{self.address}-{self.port}"

    @property
    def key(self) -> bytes:
        return service_key(self.address, _PROTOCOLS[self.protocol], self.port)


class Backend(msgspec.Struct, frozen=True, order=True):
    """An endpoint."""

    address: str
    port: int


class Attachment(msgspec.Struct, frozen=True):
    """A pod's or a node's place in the network."""

    namespace: int
    """File descriptor of its network namespace."""

    device: str
    """Its cable's end in the outer namespace."""

    address: str


@final
class Network:
    """The network as seen from the outer namespace, which the calling process becomes part of."""

    def __init__(self) -> None:
        kernel.unshare(kernel.CLONE_NEWNET)
        self.namespace = kernel.open_namespace("net")
        self._links = Links()
        self._links.set_up("lo")
        for address in (GATEWAY, API_SERVER):
            self._links.add_address("lo", address)
        for network in (LOAD_BALANCERS, SERVICES):
            self._links.add_local_network(network, source=GATEWAY)
        _set("ipv4/ip_forward", 1)
        _set("ipv4/ip_unprivileged_port_start", 0)
        self._table = Table("portway")
        self._add_rules()
        # A datagram's path is remembered; not for so long that a replaced endpoint would be missed by a test.
        _set("netfilter/nf_conntrack_udp_timeout", 2)
        _set("netfilter/nf_conntrack_udp_timeout_stream", 5)
        self._frontends: dict[Frontend, tuple[Backend, ...]] = {}
        self._used: set[str] = set()
        self._next_pod = 0
        self._next_device = 0

    def attach_pod(self, *, unprivileged_ports_from: int | None = None) -> Attachment:
        """A namespace with an address of its own.

        Args:
            unprivileged_ports_from: the sysctl `net.ipv4.ip_unprivileged_port_start` there; `None`: 1024.
        """
        return self._attach(self._free_pod_address(), unprivileged_ports_from)

    def attach_node(self, number: int) -> Attachment:
        """The namespace of a node, where pods with hostNetwork run. Any user may bind any port, as on most nodes."""
        return self._attach(f"{NODES}{number}", 0)

    def detach(self, attachment: Attachment) -> None:
        """Give its address back. Its processes have ended, so its namespace and its cable go now, too.

        By themselves, in the background: to take a cable away takes the kernel 20 ms, in which nothing else happens.
        """
        self._table.remove_element("self", pair_key(attachment.address, attachment.address))
        self._table.commit()
        os.close(attachment.namespace)
        self._used.discard(attachment.address)

    def serve(self, frontends: Mapping[Frontend, Iterable[Backend]]) -> None:
        """Send connections to these addresses to their endpoints, at random, from now on; the rest stays as it is.

        Args:
            frontends: the new endpoints of each; none: the address refuses connections. Established TCP connections
                stay where they are.
        """
        for frontend, given in frontends.items():
            backends = tuple(sorted(set(given)))
            before = self._frontends.get(frontend, ())
            if backends == before:
                continue
            if not backends:
                self._table.remove_element("services", frontend.key)
                self._table.remove_chain(frontend.chain)
                del self._frontends[frontend]
                continue
            if before:
                self._table.empty_chain(frontend.chain)
            else:
                self._table.add_chain(frontend.chain)
            self._add_choice(frontend.chain, backends)
            if not before:
                self._table.add_element("services", frontend.key, frontend.chain)
            self._frontends[frontend] = backends
        self._table.commit()

    def partition(self, one: str, other: str) -> None:
        """Drop every packet between two addresses, also of connections that stand. Of Services: their endpoints'."""
        for pair in ((one, other), (other, one)):
            self._table.add_element("cut", pair_key(*pair))
        self._table.commit()

    def heal(self, one: str, other: str) -> None:
        """The end of `partition`."""
        for pair in ((one, other), (other, one)):
            self._table.remove_element("cut", pair_key(*pair))
        self._table.commit()

    def isolate(self, address: str, *, isolated: bool = True) -> None:
        """Drop every packet from and to an address; or the end of that."""
        key = pair_key(address, address)[:4]
        (self._table.add_element if isolated else self._table.remove_element)("isolated", key)
        self._table.commit()

    def _attach(self, address: str, unprivileged_ports_from: int | None) -> Attachment:
        namespace = kernel.new_network_namespace()
        self._next_device += 1
        device = f"p{self._next_device}"
        self._links.add_veth(device, "eth0", namespace)
        with kernel.inside(namespace):
            links = Links()
            for name in ("lo", "eth0"):
                links.set_up(name)
            links.add_address("eth0", address)
            links.add_route(f"{GATEWAY}/32", "eth0")
            links.add_route("0.0.0.0/0", "eth0", gateway=GATEWAY)
            if unprivileged_ports_from is not None:
                _set("ipv4/ip_unprivileged_port_start", unprivileged_ports_from)
            links.close()
        # Last, when the other end is up: only now do both have a carrier.
        self._links.set_up(device)
        self._links.settle(device)
        with kernel.inside(namespace):
            self._links.settle("eth0")
        self._links.add_route(f"{address}/32", device, source=GATEWAY)
        self._table.add_element("self", pair_key(address, address))
        self._table.commit()
        return Attachment(namespace, device, address)

    def _free_pod_address(self) -> str:
        # Not the one that was freed last: who still talks to it would talk to a stranger.
        while True:
            self._next_pod = (self._next_pod + 1) % (250 * 250)
            address = f"{PODS}{self._next_pod // 250}.{self._next_pod % 250 + 2}"
            if address not in self._used:
                self._used.add(address)
                return address

    def _add_choice(self, chain: str, backends: tuple[Backend, ...]) -> None:
        for place, backend in enumerate(backends):
            # One of all, then one of the rest ...: the same chance for each.
            left = len(backends) - place
            chance = one_of(left) if left > 1 else ()
            self._table.add_rule(chain, *chance, *send_to(backend.address, backend.port))

    def _add_rules(self) -> None:
        table = self._table
        table.add_set("services", 12, verdicts=True)
        for name, size in (("self", 8), ("cut", 8), ("isolated", 4)):
            table.add_set(name, size)
        for name, hook in (("prerouting", Hook.PREROUTING), ("local", Hook.OUTPUT)):
            table.add_base_chain(name, "nat", hook, -100)
            lookup = (load_destination(0), load_protocol(1), load_destination_port(2), goto_by("services"))
            table.add_rule(name, *lookup)
        table.add_base_chain("postrouting", "nat", Hook.POSTROUTING, 100)
        # A pod that reaches itself through a Service would drop packets that come from its own address.
        table.add_rule("postrouting", load_source(0), load_destination(1), is_in("self"), masquerade())
        for hook in (Hook.INPUT, Hook.FORWARD, Hook.OUTPUT):
            name = f"faults-{hook.name.lower()}"
            table.add_base_chain(name, "filter", hook, 0)
            table.add_rule(name, load_source(0), load_destination(1), is_in("cut"), drop())
            for load in (load_source, load_destination):
                table.add_rule(name, load(0), is_in("isolated"), drop())
        table.commit()


def _set(name: str, value: int) -> None:
    Path(f"/proc/sys/net/{name}").write_text(str(value))
