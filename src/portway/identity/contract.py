"""What control plane, proxies and the manifests that start them agree on: ports, names, paths, variables.

A proxy of one version must work with a control plane of the next or the last one, so nothing here may change its
meaning; what is new gets a new name. `docs/design/replicas.md` has the rules.
"""

import re

SYSTEM_NAMESPACE = "portway-system"
"""Where Portway is installed unless somebody says otherwise."""

# The control plane's Service.

XDS_PORT = 18000
"""Discovery: gRPC with mutual TLS 1.3. The API server's and etcd's ports are far away, Envoy Gateway's is the same."""
IDENTITY_PORT = 18001
"""Certificates for bound tokens: HTTPS, the server alone shows a certificate."""
REPLICA_PORT = 18002
"""What replicas tell one another: HTTPS with mutual TLS, for replicas only."""

CONTROL_PLANE_NAME = "control-plane.portway.internal"
"""DNS name in the certificate of every control plane, which its proxies ask for: the address under which they reach it
(a Service of any name, an IP address, a load balancer) need not be known when the certificate is made."""
REPLICA_NAME = "replica.portway.internal"
"""The same among replicas."""

# A proxy's pod.

HEALTH_PORT = 18080
"""`/healthz`, `/readyz`, `/metrics` of a proxy, plain HTTP. With `hostNetwork` each fleet of a node needs another."""
LIVE_PATH, READY_PATH, METRICS_PATH = "/healthz", "/readyz", "/metrics"

AUDIENCE = "portway"
"""Of the ServiceAccount token that a proxy shows; a token for the API server or anybody else is refused."""
TOKEN_LIFETIME_S = 3600
"""`expirationSeconds` of the projected token; the kubelet renews it at 80 %."""

STATE_MOUNT = "/run/portway"
"""Of the `emptyDir` in which everything is written; the root file system may be read-only. (Envoy's hot restart also
uses `/dev/shm`, which every container has.)"""
STATE_DIR = f"{STATE_MOUNT}/state"
"""A folder in it that belongs to the container's user alone: the mount itself belongs to root."""
AUTHORITIES_MOUNT = "/etc/portway/ca"
TOKEN_MOUNT = "/var/run/secrets/portway"  # noqa: S105 - a folder
TOKEN_NAME = "token"  # noqa: S105 - a file name
TOKEN_FILE = f"{TOKEN_MOUNT}/{TOKEN_NAME}"

AUTHORITY_SECRET = "portway-ca"  # noqa: S105 - the name of one
"""In Portway's own namespace: the authorities with their keys."""
AUTHORITIES_CONFIG_MAP = "portway-ca"
"""In every namespace with proxies: the authorities that they believe."""
AUTHORITIES_KEY = "ca.crt"
AUTHORITIES_FILE = f"{AUTHORITIES_MOUNT}/{AUTHORITIES_KEY}"

WITHDRAWAL_S = 5
"""Default of `PORTWAY_WITHDRAWAL_TIME`: after SIGTERM, how long a proxy goes on, not ready, as if nothing were."""
DRAIN_S = 30
"""Default of `PORTWAY_DRAIN_TIME`: how long requests may take to end after that."""
END_MARGIN_S = 10
"""`terminationGracePeriodSeconds` = withdrawal + drain + this."""

# Variables of `portway proxy`: settings like any other (`docs/configuration.md`). What is not set has its default.

CONTROL_PLANE_VARIABLE = "PORTWAY_CONTROL_PLANE"
"""`portway.NAMESPACE.svc:18000`, several with commas between."""
FLEET_VARIABLE = "PORTWAY_FLEET"
NODE_ID_VARIABLE = "PORTWAY_NODE_ID"
"""fieldRef `metadata.name`."""
POD_NAMESPACE_VARIABLE = "PORTWAY_POD_NAMESPACE"
"""fieldRef `metadata.namespace`."""
NODE_NAME_VARIABLE = "PORTWAY_NODE_NAME"
"""fieldRef `spec.nodeName`."""
ZONE_VARIABLE = "PORTWAY_ZONE"
"""fieldRef `metadata.labels['topology.kubernetes.io/zone']`, which API servers from 1.35 on copy from the Node; without
it the control plane, which knows the Nodes, says it with the certificate."""
STATE_DIR_VARIABLE = "PORTWAY_STATE_DIR"
HEALTH_ADDRESS_VARIABLE = "PORTWAY_HEALTH_ADDRESS"
"""`0.0.0.0:18080` or `[::]:18080`."""
WITHDRAWAL_VARIABLE = "PORTWAY_WITHDRAWAL_TIME"
DRAIN_VARIABLE = "PORTWAY_DRAIN_TIME"
ENVOY_LOG_LEVEL_VARIABLE = "PORTWAY_ENVOY_LOG_LEVEL"
LOG_LEVEL_VARIABLE = "PORTWAY_LOG_LEVEL"
CONCURRENCY_VARIABLE = "PORTWAY_CONCURRENCY"
MAX_CONNECTIONS_VARIABLE = "PORTWAY_MAX_CONNECTIONS"

TRUST_DOMAIN = "portway.internal"
"""Of the SPIFFE IDs in certificates. They are valid under Portway's own authority only, so it need not be unique."""

_SPIFFE = re.compile(r"spiffe://[^/]+/ns/([^/]+)/sa/([^/]+)")


def workload_id(namespace: str, service_account: str, trust_domain: str = TRUST_DOMAIN) -> str:
    """The SPIFFE ID of whoever runs under a ServiceAccount, in the form that meshes have made usual."""
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}"


def parse_workload_id(text: str) -> tuple[str, str] | None:
    """Namespace and ServiceAccount; `None` if it is no such ID."""
    found = _SPIFFE.fullmatch(text)
    return (found[1], found[2]) if found is not None else None


def replica_id(trust_domain: str = TRUST_DOMAIN) -> str:
    """The SPIFFE ID that only replicas of the control plane have."""
    return f"spiffe://{trust_domain}/control-plane"
