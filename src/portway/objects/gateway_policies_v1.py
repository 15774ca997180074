"""Gateway API: ReferenceGrant and BackendTLSPolicy.

Source: Gateway API v1.7, `apis/v1/referencegrant_types.go`, `backendtlspolicy_types.go`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import msgspec

from portway.objects.meta import Meta, Part
from portway.objects.references_v1 import LocalObjectReference, LocalPolicyTargetReferenceWithSectionName
from portway.objects.scalars import (
    URI,
    WELL_KNOWN_CA,
    AnnotationValue,
    Group,
    Hostname,
    KindName,
    Namespace,
    ObjectName,
    PreciseHostname,
)


class ReferenceGrantFrom(Part, frozen=True, kw_only=True):
    """Who may refer to us."""

    group: Group
    kind: KindName
    namespace: Namespace


class ReferenceGrantTo(Part, frozen=True, kw_only=True):
    """What may be referred to. No name: every object of the kind."""

    group: Group
    kind: KindName
    name: ObjectName | None = None


class ReferenceGrantSpec(Part, frozen=True, kw_only=True):
    """Each of `from` may refer to each of `to`."""

    from_: Annotated[tuple[ReferenceGrantFrom, ...], msgspec.Meta(min_length=1, max_length=16)] = msgspec.field(
        name="from"
    )
    to: Annotated[tuple[ReferenceGrantTo, ...], msgspec.Meta(min_length=1, max_length=16)]


class ReferenceGrant(Part, frozen=True, kw_only=True):
    """Allows objects of other namespaces to refer to objects of this one."""

    metadata: Meta
    spec: ReferenceGrantSpec


class SubjectAltNameType(StrEnum):
    """What a subject alternative name is."""

    HOSTNAME = "Hostname"
    URI = "URI"


class SubjectAltName(Part, frozen=True, kw_only=True):
    """A name that the backend's certificate may have; exactly the field that `type` names is set."""

    type: SubjectAltNameType
    hostname: Hostname | None = None
    uri: (
        Annotated[str, msgspec.Meta(pattern=URI, min_length=1, max_length=253, description="a URI with an authority")]
        | None
    ) = None


class BackendTLSPolicyValidation(Part, frozen=True, kw_only=True):
    """How the backend's certificate is checked; exactly one of the two CA fields is set."""

    ca_certificate_refs: (
        Annotated[tuple[LocalObjectReference, ...], msgspec.Meta(min_length=1, max_length=8)] | None
    ) = None
    well_known_ca_certificates: (
        Annotated[
            str,
            msgspec.Meta(
                pattern=WELL_KNOWN_CA,
                min_length=1,
                max_length=253,
                description='"System", or a name with a domain before it',
            ),
        ]
        | None
    ) = msgspec.field(default=None, name="wellKnownCACertificates")
    """`System`: the CAs that the system trusts."""
    hostname: PreciseHostname
    """Sent as SNI; the certificate must have it unless `subject_alt_names` says otherwise."""
    subject_alt_names: Annotated[tuple[SubjectAltName, ...], msgspec.Meta(max_length=5)] = ()


class BackendTLSPolicySpec(Part, frozen=True, kw_only=True):
    """TLS towards some Services."""

    target_refs: Annotated[
        tuple[LocalPolicyTargetReferenceWithSectionName, ...], msgspec.Meta(min_length=1, max_length=16)
    ]
    validation: BackendTLSPolicyValidation
    options: Annotated[Mapping[str, AnnotationValue], msgspec.Meta(max_length=16)] = msgspec.field(default_factory=dict)


class BackendTLSPolicy(Part, frozen=True, kw_only=True):
    """TLS from the Gateway to Services."""

    metadata: Meta
    spec: BackendTLSPolicySpec
