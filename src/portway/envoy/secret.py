"""Certificates and authorities as SDS secrets, so that a rotation touches neither listeners nor clusters."""

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2 as secretv3

from portway.envoy.messages import encode
from portway.envoy.names import secret_key
from portway.incremental import Context
from portway.model.handles import SECRET
from portway.model.names import SecretKey, SecretUse
from portway.model.resource import Resource, make_resource
from portway.model.tls import Secret


def build_secret(name: str, use: SecretUse, secret: Secret) -> secretv3.Secret:
    """The message. Its bytes hold the private key."""
    built = secretv3.Secret(name=name)
    if use is SecretUse.AUTHORITIES:
        built.validation_context.trusted_ca.inline_bytes = secret.certificates
    else:
        built.tls_certificate.certificate_chain.inline_bytes = secret.certificates
        if secret.key is not None:
            built.tls_certificate.private_key.inline_bytes = secret.key.pem
    return built


def secret_resource(context: Context, member: tuple[str, SecretKey]) -> Resource | None:
    """The resource of a secret that a fleet uses; `None` while it cannot be had."""
    _, key = member
    secret = context.get(SECRET, key)
    if secret is None:
        return None
    name = secret_key(key)
    return make_resource(name, encode(build_secret(name.name, key.use, secret)), origins=secret.origins)
