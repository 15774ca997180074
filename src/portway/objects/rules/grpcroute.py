"""Rules of GRPCRoute.

Source: Gateway API v1.7, validations of `grpcroutes` in the Experimental channel.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from portway.objects.grpcroute_v1 import (
    GRPCBackendRef,
    GRPCMethodMatch,
    GRPCMethodMatchType,
    GRPCRouteFilter,
    GRPCRouteFilterType,
    GRPCRouteRule,
    GRPCRouteSpec,
)
from portway.objects.problems import Problem, quoted
from portway.objects.rules.engine import Table, rules
from portway.objects.rules.routes import (
    backend_port,
    named_field,
    not_repeated,
    parent_refs,
    rule_names,
    total_matches,
)

_SERVICE: Final = re.compile(r"\.?[a-z_][a-z_0-9]*(?:\.[a-z_][a-z_0-9]*)*", re.IGNORECASE | re.ASCII)
_METHOD: Final = re.compile(r"[A-Za-z_][A-Za-z_0-9]*", re.ASCII)
_ONCE: Final = (GRPCRouteFilterType.REQUEST_HEADER_MODIFIER, GRPCRouteFilterType.RESPONSE_HEADER_MODIFIER)


def _method(match: GRPCMethodMatch) -> Iterator[Problem]:
    if match.service is None and match.method is None:
        yield Problem((), "has neither service nor method", "set one of them, or leave the match out")
    if match.type is not GRPCMethodMatchType.EXACT:
        return
    if match.service is not None and not _SERVICE.fullmatch(match.service):
        yield Problem(("service",), f"{quoted(match.service)} is not a gRPC service", "write one such as shop.v1.Cart")
    if match.method is not None and not _METHOD.fullmatch(match.method):
        yield Problem(("method",), f"{quoted(match.method)} is not a gRPC method", "write one such as GetItem")


def _filter(found: GRPCRouteFilter) -> Iterable[Problem]:
    return named_field(
        found.type,
        {
            GRPCRouteFilterType.REQUEST_HEADER_MODIFIER: ("requestHeaderModifier", found.request_header_modifier),
            GRPCRouteFilterType.RESPONSE_HEADER_MODIFIER: ("responseHeaderModifier", found.response_header_modifier),
            GRPCRouteFilterType.REQUEST_MIRROR: ("requestMirror", found.request_mirror),
            GRPCRouteFilterType.EXTENSION_REF: ("extensionRef", found.extension_ref),
        },
    )


def _filters(owner: GRPCRouteRule | GRPCBackendRef) -> Iterator[Problem]:
    return not_repeated([found.type for found in owner.filters], _ONCE)


RULES: Final[Table] = dict(
    [
        rules(GRPCRouteSpec, parent_refs, rule_names, total_matches),
        rules(GRPCRouteRule, _filters),
        rules(GRPCBackendRef, backend_port, _filters),
        rules(GRPCMethodMatch, _method),
        rules(GRPCRouteFilter, _filter),
    ]
)
