"""Ways to serve many certificates on one port, as JSON-like trees for `tests.kit.resources`: chains that a matcher
chooses, chains that come by discovery, certificates that are fetched in the handshake.
"""

from collections.abc import Mapping

# Imported for their descriptors: a tree names them by `@type` only.
import envoy.extensions.matching.common_inputs.network.v3.network_inputs_pb2  # noqa: F401
import xds.type.v3.typed_struct_pb2  # noqa: F401
from envoy.config.listener.v3 import listener_components_pb2 as listener_componentsv3

from tests.kit.certificates import KeyPair
from tests.kit.resources import ADS, TYPE, connection_manager, parse, tls_context, typed

_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_INPUTS = "envoy.extensions.matching.common_inputs.network.v3"
_TLS = "envoy.extensions.transport_sockets.tls.v3"
_SELECTOR = "envoy.extensions.transport_sockets.tls.cert_selectors.on_demand_secret.v3.Config"
_MAPPER = "envoy.extensions.transport_sockets.tls.cert_mappers.sni.v3.SNI"


def by_server_name(chains: Mapping[str, str], default: str) -> dict[str, object]:
    """A `filter_chain_matcher`: which filter chain a server name is for, by name; others are for `default`."""
    tree = {
        "input": {"name": "sni", "typed_config": typed(f"{_INPUTS}.ServerNameInput")},
        "exact_match_map": {"map": {name: _chain(chain) for name, chain in chains.items()}},
    }
    return {"matcher_tree": tree, "on_no_match": _chain(default)}


def _chain(name: str) -> dict[str, object]:
    return {"action": {"name": "chain", "typed_config": typed("google.protobuf.StringValue", value=name)}}


def discovered_chain(name: str, routes_name: str, pair: KeyPair | None) -> listener_componentsv3.FilterChain:
    """A filter chain as a resource (FCDS), its certificate in line; `None`: the secret of its name, over SDS."""
    socket = tls_context(name) if pair is None else _in_line(pair)
    tree = {"name": name, "filters": [connection_manager(routes_name)], "transport_socket": socket}
    return parse(listener_componentsv3.FilterChain(), tree)


def _in_line(pair: KeyPair) -> dict[str, object]:
    certificate = {
        "certificate_chain": {"inline_string": pair.certificate},
        "private_key": {"inline_string": pair.key},
    }
    context = {"tls_certificates": [certificate]}
    return {"name": "tls", "typed_config": typed(f"{_TLS}.DownstreamTlsContext", common_tls_context=context)}


def named_manager(name: str) -> dict[str, object]:
    """A network filter: the connection manager of that name, over ECDS."""
    return {"name": name, "config_discovery": {"config_source": ADS, "type_urls": [TYPE + _MANAGER]}}


def on_demand(*, resumption: bool = False) -> dict[str, object]:
    """A transport socket that fetches, in the handshake, the secret whose name is the server name.

    Args:
        resumption: leave session resumption as it is by default.
    """
    # As a struct: the Python package of messages lacks the extension.
    selector = {
        "@type": TYPE + "xds.type.v3.TypedStruct",
        "type_url": TYPE + _SELECTOR,
        "value": {
            "config_source": ADS,
            "certificate_mapper": {
                "name": "sni",
                "typed_config": {"@type": TYPE + _MAPPER, "default_value": "default"},
            },
        },
    }
    context = {
        "custom_tls_certificate_selector": {
            "name": "envoy.tls.certificate_selectors.on_demand_secret",
            "typed_config": selector,
        }
    }
    off: dict[str, object] = (
        {}
        if resumption
        else {
            "disable_stateless_session_resumption": True,
            "disable_stateful_session_resumption": True,
        }
    )
    return {"name": "tls", "typed_config": typed(f"{_TLS}.DownstreamTlsContext", common_tls_context=context, **off)}
