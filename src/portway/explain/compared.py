"""Sockets and upstreams in words that are equal where proxies behave alike: certificates by their content, endpoints by
their addresses, whatever the objects are called that declare them."""

from hashlib import sha256
from math import gcd

from portway.explain.effects import upstream_effects
from portway.explain.request import Request
from portway.explain.world import World
from portway.model.handles import SECRET
from portway.model.listener import Chain, HttpHandler, Listener
from portway.model.names import SecretKey, UpstreamKey
from portway.model.route import WeightedUpstream
from portway.model.upstream import Discovery, Endpoint, EndpointHealth, Upstream

SHOWN_ENDPOINTS = 4
_PLAIN = Request(host="any.invalid", port=80)


def chain_texts(world: World, listener: Listener) -> dict[str, str]:
    """What happens to connections, by server name; `*` for all others."""
    return {name: _chain(world, chain) for chain in listener.chains for name in chain.server_names or ("*",)}


def _chain(world: World, chain: Chain) -> str:
    if chain.tls is not None:
        certificates = ", ".join(sorted(_certificate(world, key) for key in chain.tls.certificates))
        checked = ""
        if chain.tls.client_authorities is not None:
            authorities = _certificate(world, chain.tls.client_authorities)
            checked = f", clients verified ({chain.tls.client_validation}, {authorities})"
        versions = f"from version {chain.tls.min_version}"
        if chain.tls.max_version:
            versions += f" to {chain.tls.max_version}"
        ciphers = f", {' '.join(chain.tls.ciphers)}" if chain.tls.ciphers else ""
        protocols = "/".join(chain.tls.alpn)
        what = f"TLS with {certificates}{checked}, {versions}{ciphers}, {protocols or 'no ALPN'}"
    else:
        what = "TLS passed through" if chain.passthrough else "no TLS"
    if isinstance(chain.handler, HttpHandler):
        idle = chain.handler.idle_timeout
        return f"HTTP, {what}" + (f", silence of {idle.total_seconds():g} s ends a stream" if idle is not None else "")
    return f"TCP to {_shares(chain.handler.upstreams)}, {what}"


def _certificate(world: World, key: SecretKey) -> str:
    if not key.sources:
        # Made anew by each process, so its content says nothing.
        return "the default certificate"
    secret = world.engine.get(SECRET, key)
    if secret is None:
        return "a certificate that is not there"
    if secret.is_unread:
        return f"the certificate in {key.sources[0]} (not read)"
    return f"certificate {sha256(secret.certificates).hexdigest()[:12]}"


def _shares(upstreams: tuple[WeightedUpstream, ...]) -> str:
    total = sum(share.weight for share in upstreams)
    shares: dict[str, int] = {}
    for share in upstreams:
        name = share.upstream.place if share.upstream is not None else "nobody"
        shares[name] = shares.get(name, 0) + share.weight
    if len(shares) == 1:
        return next(iter(shares))
    return ", ".join(f"{weight / total:.1%} {name}" for name, weight in sorted(shares.items()) if weight) or "nobody"


def handler_texts(listener: Listener) -> str:
    """What holds for the whole socket."""
    parts = [f"datagrams to {_shares(listener.udp.upstreams)}"] if listener.udp is not None else []
    parts += ["a PROXY header is required"] if listener.proxy_protocol else []
    parts += ["HTTP/3 is offered"] if listener.http3 else []
    return ", ".join(parts) or "nothing special"


def upstream_texts(world: World) -> dict[UpstreamKey, tuple[str, ...]]:
    """How each upstream that is used is spoken to, and where it is."""
    found: dict[UpstreamKey, tuple[str, ...]] = {}
    for _, key in world.upstreams():
        upstream = world.upstream(key)
        if upstream is not None:
            effects = upstream_effects(upstream, key, _PLAIN, own_retries=False)
            ways = [effect.text for effect in effects if not effect.text.endswith("applies")]
            found[key] = (*ways, _endpoints(world, key, upstream))
    return found


def _endpoints(world: World, key: UpstreamKey, upstream: Upstream) -> str:
    if upstream.discovery is Discovery.DNS:
        return f"addresses of {upstream.dns_name}:{upstream.dns_port}"
    every = _endpoint_texts(world.endpoints(key).endpoints)
    if not every:
        return "no endpoints: 503"
    if len(every) <= SHOWN_ENDPOINTS:
        return f"endpoints {', '.join(every)}"
    digest = sha256(" ".join(every).encode()).hexdigest()[:6]
    return f"endpoints {', '.join(every[:SHOWN_ENDPOINTS])} and {len(every) - SHOWN_ENDPOINTS} more ({digest})"


def _endpoint_texts(endpoints: tuple[Endpoint, ...]) -> list[str]:
    """Each with what makes it less, or more, than another: weights only where they differ."""
    least = gcd(*(one.weight for one in endpoints))
    equal = len({one.weight for one in endpoints}) <= 1
    texts: list[str] = []
    for one in endpoints:
        more = [] if equal else [f"weight {one.weight // (least or 1)}"]
        more += [] if one.health is EndpointHealth.HEALTHY else [str(one.health)]
        texts.append(f"{one.address}:{one.port}" + (f" ({', '.join(more)})" if more else ""))
    return texts
