"""What a proxy and the issuer say to one another, as JSON over HTTPS.

Whoever does not know a field overhears it, and every new one has a default: either side may be a version older.
"""

import msgspec

PATH = "/v1/certificate"
"""`POST`, with the token as bearer."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a node is; empty: unknown, which costs zone-aware routing and nothing else."""

    zone: str = ""
    region: str = ""


class CertificateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a proxy sends."""

    request: str
    """PKCS#10, PEM."""
    fleet: str
    node_name: str = ""
    """Where it says that it runs: for API servers whose tokens do not tell."""
    zone: str = ""
    """Where it knows that it is; empty: it wants to be told."""


class IssuedCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """What it gets."""

    certificates: str
    """PEM, its own first."""
    authorities: str = ""
    """PEM, for information: a proxy believes the bundle that it is given by its own cluster, not this."""
    zone: str = ""
    region: str = ""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to a request that was not granted; the status says how, `Retry-After` whether it may be later."""

    problem: str = ""
