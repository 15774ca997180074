"""Names of resources. Each says what the thing serves, so that an edit elsewhere renames nothing; none equals a name of
the bootstrap, since ours hold a `/` or a `:`."""

from functools import lru_cache
from hashlib import blake2b

from portway.incremental import Context, query
from portway.model.handles import UPSTREAM
from portway.model.names import HostKey, SecretKey, SocketKey, UpstreamKey
from portway.model.resource import ResourceKey, ResourceType

NO_CLUSTER = "portway/none"
"""A cluster that never exists: TCP connections to it are closed; HTTP requests do not get so far."""

MAX_SOURCES_IN_NAME = 3
"""Authorities of more sources than this are named by a digest of all."""


@query("cluster name")
def cluster_name(context: Context, key: UpstreamKey) -> str:
    """Name of the cluster of an upstream; empty if there is none. A query of its own, so that virtual hosts are not
    built again when only the upstream's settings change."""
    upstream = context.get(UPSTREAM, key)
    return "" if upstream is None else upstream.name


def cluster_key(name: str) -> ResourceKey:
    return ResourceKey(ResourceType.CLUSTER, name)


def secret_name(key: SecretKey) -> str:
    """`certificate/<kind>/<namespace>/<name>`, `certificate/default`, `authorities/<first>+<second>`."""
    sources = [f"{source.kind}/{source.namespace}/{source.name}" for source in key.sources]
    text = "+".join(sources) or "default"
    if len(sources) > MAX_SOURCES_IN_NAME:
        text = f"{sources[0]}+{blake2b(text.encode(), digest_size=9).hexdigest()}"
    return f"{key.use}/{text}"


@lru_cache(maxsize=16_384)
def secret_key(key: SecretKey) -> ResourceKey:
    return ResourceKey(ResourceType.SECRET, secret_name(key))


def listener_name(key: SocketKey) -> str:
    """`0.0.0.0:443/tcp`; the fleet is left out, since a proxy knows but one."""
    return str(key)


def manager_key(key: SocketKey, peer: str) -> ResourceKey:
    """`manager/0.0.0.0:443/tcp/client`: the connection manager that filter chains of a socket share."""
    return ResourceKey(ResourceType.EXTENSION, f"manager/{listener_name(key)}/{peer}")


def virtual_host_name(key: HostKey) -> str:
    """As VHDS wants it: the route configuration's name, a slash, the host."""
    return f"{key.table.name}/{key.host}"
