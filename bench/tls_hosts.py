"""What one more TLS host costs among N with a certificate each, by how their certificates reach one HTTPS port.

Portway's own listener is the layout `shared manager`; the others are made from it. Why it is as it is:
docs/design/tls-hosts.md. Run:

    python -m bench.tls_hosts --hosts 1000 5000
"""

import argparse
import asyncio
import statistics
from collections.abc import Callable

import msgspec
from envoy.config.listener.v3 import listener_components_pb2 as listener_componentsv3
from envoy.config.listener.v3 import listener_pb2 as listenerv3
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as tlsv3
from google.protobuf import json_format

from portway.envoy.http_connection_manager import Peer
from portway.envoy.listener import build_listener
from portway.envoy.messages import encode, from_ads, typed
from portway.envoy.names import secret_name
from portway.envoy.shared_manager import build_shared_manager
from portway.model.listener import Chain, DownstreamTls, HttpHandler, Listener
from portway.model.names import Dialect, SecretKey, SecretUse, SocketKey, TableKey
from portway.model.resource import ResourceType
from portway.model.route import Source
from portway.objects.verdict import ObjectKey
from portway.settings import Edge
from tests.kit.certificates import Authority, KeyPair, client_context
from tests.kit.client import fetch
from tests.kit.lab import Laboratory, eventually, laboratory
from tests.kit.resources import eds_cluster, endpoints, route, routes, secret, virtual_host
from tests.kit.tls_chains import by_server_name, on_demand

AUTHORITY = Authority("bench")
TABLE = TableKey("host", "ingress:http", Dialect.INGRESS)
SOURCE = Source(object=ObjectKey("Ingress", "", ""))
DEFAULT = SecretKey(SecretUse.CERTIFICATE, ())
ON_DEMAND = "on demand"
CHANGES = 5


def host(number: int) -> str:
    return f"tenant-{number}.example.com"


def secret_of(number: int) -> SecretKey:
    return SecretKey(SecretUse.CERTIFICATE, (ObjectKey("Secret", "tenants", f"tls-{number}"),))


def chain(name: str, key: SecretKey, *names: str) -> Chain:
    tls = DownstreamTls(certificates=(key,))
    return Chain(name=name, server_names=names, tls=tls, handler=HttpHandler(table=TABLE), source=SOURCE)


def ours(hosts: int, port: int) -> Listener:
    """The model of a port with a certificate for each host."""
    chains = [chain(f"https/tenants/tls-{number}", secret_of(number), host(number)) for number in range(hosts)]
    return Listener(key=SocketKey("host", "127.0.0.1", port), chains=(chain("https", DEFAULT), *chains))


def shared_manager(hosts: int, port: int) -> listenerv3.Listener:
    return build_listener(ours(hosts, port), Edge(access_log=""), lambda _: "")


def own_manager(hosts: int, port: int) -> listenerv3.Listener:
    """As before managers were shared."""
    built = shared_manager(hosts, port)
    for each in built.filter_chains[1:]:
        each.filters[0].CopyFrom(built.filter_chains[0].filters[0])
    return built


def one_chain(hosts: int, port: int) -> listenerv3.Listener:
    """All certificates in one chain; Envoy chooses by what they cover."""
    built = shared_manager(0, port)
    context = tlsv3.DownstreamTlsContext()
    built.filter_chains[0].transport_socket.typed_config.Unpack(context)
    for number in range(hosts):
        context.common_tls_context.tls_certificate_sds_secret_configs.add(
            name=secret_name(secret_of(number)), sds_config=from_ads()
        )
    built.filter_chains[0].transport_socket.typed_config.CopyFrom(typed(context))
    return built


def discovered(hosts: int, port: int) -> listenerv3.Listener:
    """Chains over filter chain discovery; the listener says which name is for which."""
    built = _matching({host(number): f"https/tenants/tls-{number}" for number in range(hosts)}, port)
    built.fcds_config.config_source.CopyFrom(from_ads())
    return built


def demanded(hosts: int, port: int) -> listenerv3.Listener:
    """One chain whose certificates are fetched in the handshake, for the names that the listener says."""
    built = _matching({host(number): ON_DEMAND for number in range(hosts)}, port)
    made = built.filter_chains.add()
    made.CopyFrom(built.filter_chains[0])
    made.name = ON_DEMAND
    json_format.ParseDict(on_demand(), made.transport_socket)
    return built


def _matching(chains: dict[str, str], port: int) -> listenerv3.Listener:
    built = shared_manager(0, port)
    built.filter_chains[0].ClearField("filter_chain_match")
    json_format.ParseDict(by_server_name(chains, "https"), built.filter_chain_matcher)
    return built


LAYOUTS: dict[str, Callable[[int, int], listenerv3.Listener]] = {
    "own manager": own_manager,
    "shared manager": shared_manager,
    "one chain": one_chain,
    "discovered chains": discovered,
    ON_DEMAND: demanded,
}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One layout."""

    layout: str
    hosts: int
    listener_kb: float
    change_cpu_ms: float
    """CPU time of Envoy's main thread for one more host, median."""
    seen_ms: float
    """From sending the listener until the host's certificate is shown, median."""
    draining: int
    """Filter chains that Envoy drains after the changes."""
    memory_mb: float
    """After the changes, beyond an idle Envoy."""

    def text(self) -> str:
        """For people."""
        return (
            f"{self.layout:18s} {self.hosts:6,} hosts  {self.listener_kb:8,.0f} KB  CPU {self.change_cpu_ms:7.1f} ms  "
            f"seen {self.seen_ms:7.1f} ms  {self.draining} draining  {self.memory_mb:4.0f} MB"
        )


def provide(lab: Laboratory, layout: str, pairs: list[KeyPair], port: int) -> None:
    """Hold everything that the listener will make Envoy ask for."""
    lab.ads.put(secret(secret_name(DEFAULT), AUTHORITY.issue("default.example")))
    manager = build_shared_manager(ours(1, port), Edge(access_log=""), Peer.CLIENT)
    assert manager is not None
    lab.ads.put(manager)
    for number, pair in enumerate(pairs):
        lab.ads.put(secret(host(number) if layout == ON_DEMAND else secret_name(secret_of(number)), pair))
    if layout == "discovered chains":
        kind = "type.googleapis.com/envoy.config.listener.v3.FilterChain"
        for made, pair in zip(shared_manager(len(pairs), port).filter_chains[1:], pairs, strict=True):
            lab.ads.resources[kind][made.name] = encode(_in_line(made, pair))


def _in_line(made: listener_componentsv3.FilterChain, pair: KeyPair) -> listener_componentsv3.FilterChain:
    """With its certificate in line: Envoy 1.40 does not fetch the secrets of discovered chains."""
    context = tlsv3.DownstreamTlsContext()
    made.transport_socket.typed_config.Unpack(context)
    del context.common_tls_context.tls_certificate_sds_secret_configs[:]
    certificate = context.common_tls_context.tls_certificates.add()
    certificate.certificate_chain.inline_string = pair.certificate
    certificate.private_key.inline_string = pair.key
    made.transport_socket.typed_config.CopyFrom(typed(context))
    made.ClearField("filter_chain_match")
    return made


async def until_shown(port: int, name: str) -> None:
    trusting = client_context(AUTHORITY.certificate)

    async def check() -> bool:
        return (await fetch(f"https://{name}:{port}/", tls=trusting, seconds=1)).status == 200

    await eventually(check, seconds=120)


async def measure(layout: str, hosts: int, pairs: list[KeyPair]) -> Row:
    """Serve the hosts, then add some, one at a time."""
    build = LAYOUTS[layout]
    async with laboratory() as lab:
        port, backend, ads = lab.ports.take(), await lab.backends.start("a"), lab.ads
        idle = lab.envoy.memory_mb()
        ads.put(endpoints("c-a", backend.port), routes(TABLE.name, virtual_host("a", ["*"], route("c-a"))))
        assert (await ads.update(eds_cluster("c-a"))).error is None
        provide(lab, layout, pairs, port)
        assert (await ads.update(build(hosts, port))).error is None
        await until_shown(port, host(hosts - 1))
        cpu, seen, size = [], [], 0
        for number in range(hosts, hosts + CHANGES):
            changed = build(number + 1, port)
            size = len(encode(changed))
            ads.put(changed)
            await asyncio.sleep(0.3)
            before, started = lab.envoy.main_thread_seconds(), asyncio.get_running_loop().time()
            ads.push(ResourceType.LISTENER, [changed.name])
            await until_shown(port, host(number))
            seen.append(asyncio.get_running_loop().time() - started)
            await asyncio.sleep(0.3)
            cpu.append(lab.envoy.main_thread_seconds() - before)
        draining = "listener_manager.total_filter_chains_draining"
        return Row(
            layout=layout,
            hosts=hosts,
            listener_kb=size / 1000,
            change_cpu_ms=statistics.median(cpu) * 1000,
            seen_ms=statistics.median(seen) * 1000,
            draining=(await lab.envoy.statistics(draining))[draining],
            memory_mb=lab.envoy.memory_mb() - idle,
        )


async def main() -> None:
    """Print one row per layout and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[1000])
    parser.add_argument("--layout", choices=LAYOUTS, action="append", help="default: all but `one chain`")
    arguments = parser.parse_args()
    pairs = [AUTHORITY.issue(host(number)) for number in range(max(arguments.hosts) + CHANGES)]
    for hosts in arguments.hosts:
        # One chain is rebuilt for each certificate that arrives: half a minute for 1,000, quadratic.
        for layout in arguments.layout or [layout for layout in LAYOUTS if layout != "one chain"]:
            row = await measure(layout, hosts, pairs[: hosts + CHANGES])
            print(row.text(), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
