"""What an engine serves, looked up by request: sockets, listeners, filter chains, virtual hosts, upstreams.

Reads the same queries that Envoy's resources are built from, on the live engine or on one made from files; whatever is
not asked for is not built.
"""

import re
from collections.abc import Iterable, Iterator
from typing import final

from portway.explain.action import Answering
from portway.explain.match import domain_candidates
from portway.explain.request import Request
from portway.incremental import Engine
from portway.model.condition import ObjectReport
from portway.model.handles import (
    ENDPOINTS,
    FLEETS,
    INFRASTRUCTURE,
    LISTENER,
    REPORT,
    SOCKETS,
    TABLE,
    UPSTREAM,
    UPSTREAM_USES,
    VIRTUAL_HOST,
    VIRTUAL_HOSTS,
)
from portway.model.listener import Chain, Listener
from portway.model.names import HostKey, SocketKey, TableKey, Transport, UpstreamKey
from portway.model.route import RouteTable, Source, VirtualHost
from portway.model.upstream import Discovery, Endpoints, Upstream

_MEANWHILE = re.compile(r"; requests\b[^;]*\banswer \d{3}$")
"""What findings say of requests: an answer that is being explained says it already."""


@final
class World:
    """A snapshot: make a new one after a change."""

    def __init__(self, engine: Engine) -> None:
        """The engine must be settled."""
        self.engine = engine
        self.sockets: tuple[SocketKey, ...] = tuple(sorted(engine.groups(SOCKETS)))
        self._keys: dict[TableKey, dict[str, HostKey]] = {}
        self._domains: dict[TableKey, dict[str, VirtualHost]] = {}
        for key in engine.groups(VIRTUAL_HOSTS):
            self._keys.setdefault(key.table, {})[key.host] = key

    def listener(self, socket: SocketKey) -> Listener | None:
        return self.engine.get(LISTENER, socket)

    def table(self, key: TableKey) -> RouteTable:
        return self.engine.get(TABLE, key)

    def host(self, table: TableKey, name: str) -> tuple[str, VirtualHost] | None:
        """The virtual host of a host name, with the domain by which it is found; `None`: there is none."""
        key = self._keys.get(table, {}).get(name)
        found = self.engine.get(VIRTUAL_HOST, key) if key is not None else None
        if found is not None:
            return name, found
        # Further domains of hosts (aliases) are in no key, so now all of them have to be known.
        hosts = self.hosts(table)
        return next(((domain, hosts[domain]) for domain in domain_candidates(name) if domain in hosts), None)

    def hosts(self, table: TableKey) -> dict[str, VirtualHost]:
        """The virtual hosts of a table by domain; builds all of them."""
        found = self._domains.get(table)
        if found is None:
            found = self._domains[table] = {}
            keys = self._keys.get(table, {})
            for name in sorted(keys):
                host = self.engine.get(VIRTUAL_HOST, keys[name])
                if host is not None:
                    for domain in host.domains:
                        found.setdefault(domain, host)
        return found

    def upstreams(self) -> Iterator[tuple[str, UpstreamKey]]:
        """Fleet and key of every upstream that is used."""
        return self.engine.groups(UPSTREAM_USES)

    def upstream(self, key: UpstreamKey) -> Upstream | None:
        return self.engine.get(UPSTREAM, key)

    def endpoints(self, key: UpstreamKey) -> Endpoints:
        return self.engine.get(ENDPOINTS, key)

    def problem(self, key: UpstreamKey) -> Answering | None:
        """Why an upstream cannot answer; `None`: it can, as far as one knows from here."""
        upstream = self.upstream(key)
        if upstream is None:
            return Answering(status=0, text=f"{key.object} cannot be used", exists=False)
        if upstream.discovery is Discovery.DNS or self.endpoints(key).endpoints:
            return None
        return Answering(status=503, text=f"{key.place} has no endpoints")

    def reason(self, source: Source) -> str:
        """What there is to say about something that was declared; empty: nothing. Of a match: about its rule."""
        report: ObjectReport = self.engine.get(REPORT, source.object)
        rule, _, last = source.field.rpartition(".")
        for field in (source.field, rule) if last.startswith("matches[") else (source.field,):
            said = [verdict.problem for verdict in report.verdicts if _is_about(verdict.field, field)]
            if said:
                more = f" (and {len(said) - 1} more)" if len(said) > 1 else ""
                return _MEANWHILE.sub("", said[0]) + more
        return ""

    @property
    def is_host(self) -> bool:
        """Whether one fleet serves everything."""
        return self.engine.read(INFRASTRUCTURE, None).is_host

    @property
    def fleets(self) -> tuple[str, ...]:
        """Names of all fleets that there are, sorted; those without an open socket too."""
        return tuple(sorted({*self.engine.groups(FLEETS), *(key.fleet for key in self.sockets)}))

    def open_at(self, port: int) -> tuple[str, ...]:
        """Names of the fleets that have the TCP port open, sorted."""
        return tuple(
            dict.fromkeys(key.fleet for key in self.sockets if key.port == port and key.transport is Transport.TCP)
        )

    def find_socket(self, request: Request, address: str = "", fleet: str = "") -> SocketKey | None:
        """The TCP socket that the request arrives at; among several addresses of the port the given one, else the
        first.

        Args:
            fleet: empty: any.
        """
        fitting = [
            key
            for key in self.sockets
            if key.port == request.port and key.transport is Transport.TCP and fleet in ("", key.fleet)
        ]
        for key in fitting:
            if address and key.address == address:
                return key
        return fitting[0] if fitting else None


def _is_about(field: str, asked: str) -> bool:
    """Whether a finding's field is the one asked about, a part of it, or holds it."""
    longer, shorter = (field, asked) if len(field) > len(asked) else (asked, field)
    return bool(shorter) and longer.startswith(shorter) and longer[len(shorter) :][:1] in ("", ".", "[")


def find_chain(chains: Iterable[Chain], request: Request) -> Chain | None:
    """The filter chain of the request's connection: the most specific server name wins."""
    by_name = {name: chain for chain in chains for name in chain.server_names or ("*",)}
    candidates = domain_candidates(request.server_name) if request.server_name else iter(("*",))
    for name in candidates:
        chain = by_name.get(name)
        if chain is not None:
            return chain
    return None
