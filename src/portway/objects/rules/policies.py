"""Rules of BackendTLSPolicy; ReferenceGrant has none.

Source: Gateway API v1.7, validations of `backendtlspolicies` in the Experimental channel. The Standard channel also
takes an empty `caCertificateRefs` beside `wellKnownCACertificates`.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from portway.objects.gateway_policies_v1 import (
    BackendTLSPolicySpec,
    BackendTLSPolicyValidation,
    SubjectAltName,
    SubjectAltNameType,
)
from portway.objects.problems import Problem
from portway.objects.rules.engine import Table, rules
from portway.objects.rules.routes import named_field, target_refs


def _targets(spec: BackendTLSPolicySpec) -> Iterator[Problem]:
    return target_refs(spec.target_refs)


def _validation(validation: BackendTLSPolicyValidation) -> Iterable[Problem]:
    names = "caCertificateRefs and wellKnownCACertificates"
    has_references = validation.ca_certificate_refs is not None
    has_well_known = validation.well_known_ca_certificates is not None
    if has_references and has_well_known:
        return (Problem((), f"has both of {names}", "keep one of the two"),)
    if not has_references and not has_well_known:
        return (Problem((), f"has none of {names}", "say which CAs are trusted"),)
    return ()


def _subject_alt_name(name: SubjectAltName) -> Iterable[Problem]:
    return named_field(
        name.type,
        {SubjectAltNameType.HOSTNAME: ("hostname", name.hostname), SubjectAltNameType.URI: ("uri", name.uri)},
    )


RULES: Final[Table] = dict(
    [
        rules(BackendTLSPolicySpec, _targets),
        rules(BackendTLSPolicyValidation, _validation),
        rules(SubjectAltName, _subject_alt_name),
    ]
)
