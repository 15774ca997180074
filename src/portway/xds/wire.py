"""Discovery messages: what comes in is parsed into a `Request`, what goes out is built from a `Response`.

The resources' bytes are taken as they are; nothing here looks into them.
"""

from collections.abc import Mapping

from envoy.service.discovery.v3 import discovery_pb2 as discoveryv3

from portway.model.resource import ResourceType
from portway.xds.messages import Request, Response

MAX_ERROR = 2_000
"""Characters of what a proxy says about a refusal; it is kept as long as that lasts, and logged."""

TYPES: Mapping[str, ResourceType] = {str(kind): kind for kind in ResourceType}


def parse_request(message: discoveryv3.DeltaDiscoveryRequest) -> Request | None:
    """The request, or `None` if it is about a type that Portway serves no resources of."""
    kind = TYPES.get(message.type_url)
    if kind is None:
        return None
    return Request(
        type=kind,
        subscribe=tuple(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        versions=dict(message.initial_resource_versions),
        nonce=message.response_nonce,
        error=message.error_detail.message[:MAX_ERROR] if message.HasField("error_detail") else None,
    )


def build_response(response: Response, zone: str = "") -> discoveryv3.DeltaDiscoveryResponse:
    """The message; each body is wrapped, not parsed.

    Args:
        zone: of the proxy; empty: not known.
    """
    message = discoveryv3.DeltaDiscoveryResponse(
        type_url=response.type, nonce=response.nonce, removed_resources=response.removed
    )
    for resource in response.resources:
        added = message.resources.add(name=resource.key.name, version=resource.version)
        added.resource.type_url = response.type
        added.resource.value = resource.body_for(zone)
    return message
