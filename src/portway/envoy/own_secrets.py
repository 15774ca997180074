"""The files from which an Envoy takes what it shows its control plane, and whom it believes there: SDS by file.

Plain JSON with the PEM texts in it: one file is replaced in one step, so key and certificate always belong together.
Source: Envoy docs, "Secret discovery service", "Example three: certificate rotation".
"""

import msgspec

OWN_CERTIFICATE = "own_certificate"
CONTROL_PLANE_AUTHORITIES = "control_plane_authorities"
TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


def encode_own_certificate(certificates: bytes, key: bytes) -> bytes:
    """A DiscoveryResponse with the certificate (PEM, its own first) and its key. Holds a secret: mode 0600."""
    pair = {
        "certificate_chain": {"inline_string": certificates.decode()},
        "private_key": {"inline_string": key.decode()},
    }
    return _encode({"@type": TYPE, "name": OWN_CERTIFICATE, "tls_certificate": pair})


def encode_authorities(authorities: bytes) -> bytes:
    """A DiscoveryResponse with those who may vouch for the control plane (PEM)."""
    trusted = {"trusted_ca": {"inline_string": authorities.decode()}}
    return _encode({"@type": TYPE, "name": CONTROL_PLANE_AUTHORITIES, "validation_context": trusted})


def _encode(secret: object) -> bytes:
    return msgspec.json.encode({"resources": [secret]}) + b"\n"
