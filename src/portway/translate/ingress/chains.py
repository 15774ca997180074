"""What Ingress wants of its sockets: plain HTTP, TLS by server name, TLS passed through.

All hosts that show the same certificate share a filter chain: a chain costs a proxy far more than a server name, and a
change of one leaves the connections of the others alone. Everything else, also a server name that nobody declares, is
in the chain with the default certificate.

Which certificate a host shows: the oldest Ingress of the host with a `tls` section decides. The entry that names the
host says the Secret; if none does, a Secret of that Ingress whose certificate covers the host. A Secret that is
missing, is no certificate or does not cover the host is replaced by the default certificate (ingress-nginx,
"TLS/HTTPS").

`*.x` stands for one label, but to proxies for any number of them. So where a certificate is shown for a wildcard, the
default certificate stands before it: a name with more labels, which the other one does not cover, gets that, as in
ingress-nginx. (A Gateway's `*.x` does stand for any number of labels.)
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from portway.incremental import Context, Relation, feed, query
from portway.model.edge import Edge
from portway.model.handles import EDGE, SECRET
from portway.model.listener import Chain, DownstreamTls, HttpHandler, TcpHandler
from portway.model.names import SecretKey, SecretUse, SocketKey
from portway.model.route import Source, WeightedUpstream
from portway.model.upstream import Protocol, UpstreamSettings
from portway.objects.verdict import ObjectKey
from portway.translate.certificates import Certificate, certificate, covers, is_for
from portway.translate.ingress.backends import place_of, with_settings
from portway.translate.ingress.hosts import FURTHER, HostPlan, Owned, host_plan
from portway.translate.ingress.matching import is_wildcard
from portway.translate.ingress.names import OPPOSITES, granted_aliases, redirected_to
from portway.translate.ingress.owners import admitted_shares
from portway.translate.ingress.shares import CATCH_ALL, IngressHost, Share
from portway.translate.ingress.virtual_hosts import table_key
from portway.translate.sockets import CHAINS, INGRESS, INGRESS_AGES, ChainRow, bind_addresses


class ShownSecret(NamedTuple):
    """A certificate that a fleet shows."""

    fleet: str
    secret: ObjectKey

    def __str__(self) -> str:
        return str(self.secret)


CERTIFICATE_HOSTS: Final[Relation[ShownSecret, tuple[str, ...]]] = Relation("server names by ingress certificate")
"""Rows: server names that show its certificate."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which certificate a host shows."""

    secret: ObjectKey | None = None
    """`None`: the default certificate."""
    ingress: ObjectKey | None = None
    """Which Ingress decided."""
    problem: str = ""
    """Why it is the default certificate although a Secret was named."""


@query("certificate of an ingress host")
def certificate_choice(ctx: Context, key: IngressHost) -> Choice:
    """Which certificate a host shows."""
    share = next((share for share in admitted_shares(ctx, key) if share.has_tls and not share.canary), None)
    if share is None or key.host == CATCH_ALL:
        return Choice()
    if share.named:
        if not share.secret:
            return Choice(ingress=share.ingress)
        return _checked(ctx, share, ObjectKey("Secret", share.ingress.namespace, share.secret), key.host)
    for name in share.other_secrets:
        secret = ObjectKey("Secret", share.ingress.namespace, name)
        if _is_for(ctx.get(certificate, secret), key.host):
            return Choice(secret=secret, ingress=share.ingress)
    return Choice(ingress=share.ingress)


def _is_for(found: Certificate, host: str) -> bool:
    return found.secret is not None and is_for(found.secret, host)


def _checked(ctx: Context, share: Share, key: ObjectKey, host: str) -> Choice:
    found = ctx.get(certificate, key)
    if found.secret is None:
        return Choice(ingress=share.ingress, problem=found.problem)
    if not is_for(found.secret, host):
        names = ", ".join(found.secret.names) or "no name at all"
        return Choice(ingress=share.ingress, problem=f"the certificate in {key} is for {names}, not for {host}")
    return Choice(secret=key, ingress=share.ingress)


def is_passed_through(ctx: Context, plan: HostPlan) -> bool:
    """Whether TLS for the host is passed on as it is: wanted, a single name, and there is somewhere to pass it to."""
    return _passthrough(ctx, plan) is not None


def _passthrough(ctx: Context, plan: HostPlan) -> tuple[Owned, TcpHandler] | None:
    if not plan.passthrough or plan.host == CATCH_ALL or is_wildcard(plan.host):
        return None
    root = next((owned for owned in plan.locations if owned.location.path == "/"), None)
    if root is None or root.location.backend is None:
        return None
    place = place_of(ctx, root.ingress.namespace, root.location.backend)
    if place.upstream is None:
        return root, TcpHandler()
    settings = UpstreamSettings(protocol=Protocol.TCP, passthrough=True)
    return root, TcpHandler(upstreams=(WeightedUpstream(upstream=with_settings(place.upstream, settings)),))


def _server_names(ctx: Context, host: IngressHost) -> Mapping[ShownSecret, tuple[str, ...]]:
    plan = ctx.get(host_plan, host)
    choice = ctx.get(certificate_choice, host)
    if plan is None or choice.secret is None or is_passed_through(ctx, plan):
        return {}
    found = ctx.get(certificate, choice.secret).secret
    # Other names of the host show its certificate only if that covers them.
    aliases = [name for name in granted_aliases(ctx, plan) if found is not None and is_for(found, name)]
    return {ShownSecret(host.fleet, choice.secret): (host.host, *aliases)}


def _opposite_name(ctx: Context, name: IngressHost) -> Mapping[ShownSecret, tuple[str, ...]]:
    host = redirected_to(ctx, name)
    choice = ctx.get(certificate_choice, host) if host is not None else Choice()
    if choice.secret is None or not _is_for(ctx.get(certificate, choice.secret), name.host):
        return {}
    return {ShownSecret(name.fleet, choice.secret): (name.host,)}


def _https_sockets(ctx: Context, fleet: str) -> Iterator[SocketKey]:
    """Where TLS is expected."""
    port = ctx.read(EDGE, None).https_port
    return (SocketKey(fleet, address, port) for address in bind_addresses(ctx))


def _handler(edge: Edge, fleet: str) -> HttpHandler:
    return HttpHandler(table=table_key(fleet), idle_timeout=edge.read_timeout)


_DEFAULT: Final = SecretKey(SecretUse.CERTIFICATE, ())


def _tls(certificates: tuple[SecretKey, ...], edge: Edge) -> DownstreamTls:
    return DownstreamTls(
        certificates=certificates,
        first_for_others=len(certificates) > 1,
        min_version=edge.tls_min_version,
        ciphers=edge.tls_ciphers,
    )


def _certificates(ctx: Context, secret: ObjectKey, names: Sequence[str]) -> tuple[SecretKey, ...]:
    """The certificate of these server names; before it the default one, for what is deeper below a wildcard.

    Where the two have names in common, proxies could take the default for them, so the deeper names get the other.
    """
    own = SecretKey(SecretUse.CERTIFICATE, (secret,))
    default = ctx.get(SECRET, _DEFAULT) if any(map(is_wildcard, names)) else None
    if default is None or any(
        covers((name,), other) or covers((other,), name) for name in names for other in default.names
    ):
        return (own,)
    return (_DEFAULT, own)


def _base_chains(ctx: Context, fleet: str) -> Mapping[SocketKey, ChainRow]:
    edge = ctx.read(EDGE, None)
    source = Source(object=INGRESS)
    plain = Chain(name="http", handler=_handler(edge, fleet), source=source)
    secure = Chain(name="https", tls=_tls((_DEFAULT,), edge), handler=_handler(edge, fleet), source=source)
    found = {}
    for address in bind_addresses(ctx):
        found[SocketKey(fleet, address, edge.http_port)] = ChainRow(
            owner=INGRESS, chains=(plain,), proxy_protocol=edge.proxy_protocol
        )
        found[SocketKey(fleet, address, edge.https_port)] = ChainRow(
            owner=INGRESS, chains=(secure,), proxy_protocol=edge.proxy_protocol, http3=edge.http3
        )
    return found


def _certificate_chain(ctx: Context, key: ShownSecret) -> Mapping[SocketKey, ChainRow]:
    edge = ctx.read(EDGE, None)
    secret = key.secret
    names = sorted({name for row in ctx.rows(CERTIFICATE_HOSTS, key) for name in row})
    chain = Chain(
        name=f"https/{secret.namespace}/{secret.name}",
        server_names=tuple(names),
        tls=_tls(_certificates(ctx, secret, names), edge),
        handler=_handler(edge, key.fleet),
        source=Source(object=secret),
    )
    row = ChainRow(owner=INGRESS, chains=(chain,), origins=(secret,))
    return dict.fromkeys(_https_sockets(ctx, key.fleet), row)


def _passthrough_chain(ctx: Context, key: IngressHost) -> Mapping[SocketKey, ChainRow]:
    plan = ctx.get(host_plan, key)
    found = _passthrough(ctx, plan) if plan is not None else None
    if found is None:
        return {}
    owned, handler = found
    chain = Chain(
        name=f"passthrough/{key.host}",
        server_names=(key.host,),
        passthrough=True,
        handler=handler,
        source=Source(object=owned.ingress, field=owned.location.field),
    )
    row = ChainRow(owner=INGRESS, chains=(chain,), origins=(owned.ingress,))
    return dict.fromkeys(_https_sockets(ctx, key.fleet), row)


RELATIONS: Final = (CERTIFICATE_HOSTS,)
FEEDS: Final = (
    feed(CERTIFICATE_HOSTS, FURTHER, _server_names),
    feed(CERTIFICATE_HOSTS, OPPOSITES, _opposite_name),
    feed(CHAINS, INGRESS_AGES, _base_chains),
    feed(CHAINS, CERTIFICATE_HOSTS, _certificate_chain),
    feed(CHAINS, FURTHER, _passthrough_chain),
)
