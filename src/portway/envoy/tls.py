"""TLS contexts, towards clients and towards upstreams. Key material comes over SDS by name, never in line."""

from envoy.extensions.transport_sockets.tls.v3 import common_pb2 as tls_commonv3
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2 as secretv3
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as tlsv3

from portway.envoy.messages import from_ads
from portway.envoy.names import secret_name
from portway.model.listener import ClientValidation, DownstreamTls
from portway.model.names import SecretKey
from portway.model.upstream import Protocol, UpstreamTls

SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
"""The operating system's authorities where the proxy runs: Debian's and Alpine's place, and a link on most others."""

VERSIONS = {
    "1.0": tls_commonv3.TlsParameters.TLSv1_0,
    "1.1": tls_commonv3.TlsParameters.TLSv1_1,
    "1.2": tls_commonv3.TlsParameters.TLSv1_2,
    "1.3": tls_commonv3.TlsParameters.TLSv1_3,
}

UPSTREAM_ALPN = {
    Protocol.HTTP1: ("http/1.1",),
    Protocol.HTTP2: ("h2",),
    Protocol.AS_DOWNSTREAM: (),  # Envoy offers what it is about to speak
    Protocol.TCP: (),
    Protocol.UDP: (),
}

_SAN_TYPES = {"DNS": tls_commonv3.SubjectAltNameMatcher.DNS, "URI": tls_commonv3.SubjectAltNameMatcher.URI}


def secret_config(key: SecretKey) -> secretv3.SdsSecretConfig:
    return secretv3.SdsSecretConfig(name=secret_name(key), sds_config=from_ads())


def build_downstream_tls(tls: DownstreamTls) -> tlsv3.DownstreamTlsContext:
    """How a socket speaks TLS with clients. Session tickets stay at Envoy's default: keys of its own, until restart."""
    context = tlsv3.DownstreamTlsContext()
    common = context.common_tls_context
    common.tls_certificate_sds_secret_configs.extend(map(secret_config, tls.certificates))
    common.alpn_protocols.extend(tls.alpn)
    # TLS 1.2 is Envoy's own lower bound for servers.
    if tls.min_version and tls.min_version != "1.2":
        common.tls_params.tls_minimum_protocol_version = VERSIONS[tls.min_version]
    if tls.max_version:
        common.tls_params.tls_maximum_protocol_version = VERSIONS[tls.max_version]
    common.tls_params.cipher_suites.extend(tls.ciphers)
    if len(tls.certificates) > 1:
        # Without, a client whose name fits none gets the first certificate, though it may not speak its key type. Said
        # aloud also where it is false: the default over QUIC is the other one.
        context.full_scan_certs_on_sni_mismatch.value = not tls.first_for_others
    if tls.client_authorities is not None:
        combined = common.combined_validation_context
        combined.validation_context_sds_secret_config.CopyFrom(secret_config(tls.client_authorities))
        # Said aloud also where it is false: Envoy will change its default.
        context.require_client_certificate.value = tls.client_validation is ClientValidation.REQUIRE
        if tls.client_validation is ClientValidation.REQUIRE:
            combined.default_validation_context.SetInParent()
        else:
            # Asked for, and whatever comes passes (Gateway API, AllowInsecureFallback).
            combined.default_validation_context.trust_chain_verification = (
                tls_commonv3.CertificateValidationContext.ACCEPT_UNTRUSTED
            )
    return context


def build_upstream_tls(tls: UpstreamTls, protocol: Protocol) -> tlsv3.UpstreamTlsContext:
    """How a cluster speaks TLS with its endpoints. With no authorities at all nothing is verified."""
    context = tlsv3.UpstreamTlsContext(sni=tls.sni)
    common = context.common_tls_context
    common.alpn_protocols.extend(UPSTREAM_ALPN[protocol])
    if tls.certificate is not None:
        common.tls_certificate_sds_secret_configs.append(secret_config(tls.certificate))
    if tls.authorities is not None:
        combined = common.combined_validation_context
        combined.validation_context_sds_secret_config.CopyFrom(secret_config(tls.authorities))
        combined.default_validation_context.SetInParent()
        _verify_names(combined.default_validation_context, tls)
    elif tls.system_authorities:
        common.validation_context.trusted_ca.filename = SYSTEM_AUTHORITIES
        _verify_names(common.validation_context, tls)
    return context


def verifies(tls: UpstreamTls) -> bool:
    """Whether the upstream's certificate is verified."""
    return tls.authorities is not None or tls.system_authorities


def downstream_secrets(tls: DownstreamTls) -> tuple[SecretKey, ...]:
    """The secrets that the context names."""
    return tls.certificates if tls.client_authorities is None else (*tls.certificates, tls.client_authorities)


def upstream_secrets(tls: UpstreamTls) -> tuple[SecretKey, ...]:
    """The secrets that the context names."""
    return tuple(key for key in (tls.authorities, tls.certificate) if key is not None)


def _verify_names(context: tls_commonv3.CertificateValidationContext, tls: UpstreamTls) -> None:
    for kind, value in tls.names:
        name = context.match_typed_subject_alt_names.add(san_type=_SAN_TYPES[kind])
        name.matcher.exact = value
