"""Filters of HTTPRoute and GRPCRoute rules and backendRefs.

A filter that cannot be applied must not be skipped: the requests that it stands for get an error instead.

Source: Gateway API, `HTTPRouteFilter`, `GRPCRouteFilter`, `HTTPExternalAuthFilter`.
"""

from collections.abc import Sequence
from datetime import timedelta
from math import gcd

import msgspec

from portway.incremental import Context
from portway.model.checks import check_edited_header, check_header_value
from portway.model.route import (
    NO_EDITS,
    CorsPolicy,
    ExternalAuth,
    Fraction,
    HeaderEdits,
    Mirror,
    PathRewrite,
    PathRewriteKind,
)
from portway.objects.filters_v1 import (
    ExternalAuthProtocol,
    HTTPExternalAuthFilter,
    HTTPHeaderFilter,
    HTTPRequestMirrorFilter,
)
from portway.objects.grpcroute_v1 import GRPCRouteFilter
from portway.objects.httproute_v1 import (
    HTTPCORSFilter,
    HTTPPathModifier,
    HTTPRequestRedirectFilter,
    HTTPRouteFilter,
    HTTPURLRewriteFilter,
    PathModifierType,
)
from portway.objects.problems import quoted
from portway.objects.references_v1 import LocalObjectReference
from portway.objects.verdict import Severity
from portway.translate.gateway import backends, findings
from portway.translate.gateway.backends import Use
from portway.translate.gateway.findings import Problem


class Filtered(msgspec.Struct, frozen=True, kw_only=True):
    """What the filters of one rule or backendRef add up to."""

    request_headers: HeaderEdits = NO_EDITS
    response_headers: HeaderEdits = NO_EDITS
    redirect: HTTPRequestRedirectFilter | None = None
    path: PathRewrite | None = None
    host: str = ""
    mirrors: tuple[Mirror, ...] = ()
    cors: CorsPolicy | None = None
    auth: ExternalAuth | None = None
    refused: str = ""
    """Why requests must be answered with 500; empty: they need not."""
    problems: tuple[Problem, ...] = ()


NO_FILTERS = Filtered()

_TAKE_ALL = 10_000
"""Denominator of mirrored shares that hundredths cannot say."""


def filtered(
    ctx: Context, declared: Sequence[HTTPRouteFilter | GRPCRouteFilter], field: str, use: Use, *, of_backend: bool
) -> Filtered:
    """Add filters up.

    Args:
        ctx: where the objects that filters refer to are read.
        declared: in the order of the route.
        field: path of the rule or backendRef that has them.
        use: how the route uses backends, for mirrors.
        of_backend: they stand on a backendRef, where some filters mean nothing.
    """
    result = NO_FILTERS
    for index, each in enumerate(declared):
        place = f"{field}.filters[{index}]"
        part = _translate(ctx, each, place, use)
        if of_backend and (part.redirect is not None or part.cors is not None or part.auth is not None):
            message = f"{each.type} is supported on rules, not on backendRefs; {use.consequence}"
            part = _refusal(_unsupported(place, message, "move it to the filters of the rule"))
        result = _joined(result, part)
    if result.redirect is not None and (result.path is not None or result.host):
        message = "a rule cannot both redirect and rewrite; its requests answer 500"
        clash = _unsupported(f"{field}.filters", message, "remove one of the two", reason="IncompatibleFilters")
        result = _joined(result, _refusal(clash))
    if result.redirect is not None and result.cors is not None:
        number = next(index for index, each in enumerate(declared) if getattr(each, "cors", None) is not None)
        result = _joined(result, Filtered(problems=(_silent_cors(f"{field}.filters[{number}]"),)))
    return result


def _joined(one: Filtered, other: Filtered) -> Filtered:
    if one is NO_FILTERS:
        return other
    return Filtered(
        request_headers=_joined_edits(one.request_headers, other.request_headers),
        response_headers=_joined_edits(one.response_headers, other.response_headers),
        redirect=one.redirect or other.redirect,
        path=one.path or other.path,
        host=one.host or other.host,
        mirrors=one.mirrors + other.mirrors,
        cors=one.cors or other.cors,
        auth=one.auth or other.auth,
        refused=one.refused or other.refused,
        problems=one.problems + other.problems,
    )


def _joined_edits(one: HeaderEdits, other: HeaderEdits) -> HeaderEdits:
    if not one:
        return other
    if not other:
        return one
    return HeaderEdits(set=one.set + other.set, add=one.add + other.add, remove=one.remove + other.remove)


def _translate(ctx: Context, declared: HTTPRouteFilter | GRPCRouteFilter, place: str, use: Use) -> Filtered:
    if declared.request_header_modifier is not None:
        edits, problems = _edits(declared.request_header_modifier, f"{place}.requestHeaderModifier")
        return Filtered(request_headers=edits, problems=problems, refused=_because(problems))
    if declared.response_header_modifier is not None:
        edits, problems = _edits(declared.response_header_modifier, f"{place}.responseHeaderModifier")
        return Filtered(response_headers=edits, problems=problems, refused=_because(problems))
    if declared.request_mirror is not None:
        return _mirror(ctx, declared.request_mirror, f"{place}.requestMirror", use)
    if declared.extension_ref is not None:
        return _extension(declared.extension_ref, f"{place}.extensionRef")
    if isinstance(declared, HTTPRouteFilter):
        if declared.request_redirect is not None:
            redirect = declared.request_redirect
            return _unwritable(redirect.path, f"{place}.requestRedirect.path") or Filtered(redirect=redirect)
        if declared.url_rewrite is not None:
            rewrite = declared.url_rewrite
            return _unwritable(rewrite.path, f"{place}.urlRewrite.path") or _rewrite(rewrite)
        if declared.cors is not None:
            return Filtered(cors=_cors(declared.cors))
        if declared.external_auth is not None:
            return _auth(ctx, declared.external_auth, f"{place}.externalAuth", use)
    message = f"the filter {declared.type} has no settings; its requests answer 500"
    return _refusal(_unsupported(place, message, "set the field that its type names, or remove the filter"))


def _silent_cors(field: str) -> Problem:
    """Proxies redirect before they look at cross-origin rules, and browsers follow no redirect of a preflight (Fetch,
    "CORS-preflight fetch")."""
    return Problem(
        condition="",
        reason="UnsupportedValue",
        field=field,
        message="CORS has no effect on a rule that redirects; preflights are redirected too, which browsers refuse",
        remedy="remove it, and let pages ask for what the redirect leads to",
        severity=Severity.WARNING,
    )


def _refusal(problem: Problem) -> Filtered:
    return Filtered(refused=problem.message, problems=(problem,))


def _because(problems: tuple[Problem, ...]) -> str:
    return problems[0].message if problems else ""


def _unsupported(field: str, message: str, remedy: str, *, reason: str = "UnsupportedValue") -> Problem:
    return Problem(condition=findings.ACCEPTED, reason=reason, field=field, message=message, remedy=remedy)


def _edits(declared: HTTPHeaderFilter, place: str) -> tuple[HeaderEdits, tuple[Problem, ...]]:
    problems: list[Problem] = []

    def note(field: str, problem: str) -> None:
        if problem:
            message = f"{problem}; the requests of the rule answer 500"
            remedy = "write it without control characters" if field.endswith(".value") else "remove it"
            problems.append(_unsupported(f"{place}.{field}", message, remedy))

    for name, headers in (("set", declared.set), ("add", declared.add)):
        for index, header in enumerate(headers):
            note(f"{name}[{index}].name", _said(header.name, check_edited_header(header.name)))
            note(f"{name}[{index}].value", _said(header.value, check_header_value(header.value)))
    for index, removed in enumerate(declared.remove):
        note(f"remove[{index}]", _said(removed, check_edited_header(removed)))
    if problems:
        return NO_EDITS, tuple(problems)
    # Of equivalent names the first counts, the others must be ignored.
    first_set = {header.name.lower(): (header.name, header.value) for header in reversed(declared.set)}
    first_add = {header.name.lower(): (header.name, header.value) for header in reversed(declared.add)}
    return (
        HeaderEdits(
            set=tuple(reversed(first_set.values())),
            add=tuple(reversed(first_add.values())),
            remove=tuple({name.lower(): name for name in declared.remove}.values()),
        ),
        (),
    )


def _said(value: str, problem: str) -> str:
    return f"{quoted(value)} {problem}" if problem else ""


def _mirror(ctx: Context, declared: HTTPRequestMirrorFilter, place: str, use: Use) -> Filtered:
    # Whose answers nobody sees needs no stickiness.
    settings = msgspec.structs.replace(use.settings, host_override=False)
    mirrored = msgspec.structs.replace(use, settings=settings, consequence="no request is mirrored to it")
    resolved = backends.resolve(ctx, declared.backend_ref, f"{place}.backendRef", mirrored)
    if resolved.upstream is None:
        return Filtered(problems=() if resolved.problem is None else (resolved.problem,))
    share = None
    if declared.percent is not None:
        share = Fraction(numerator=declared.percent)
    elif declared.fraction is not None:
        share = share_of(declared.fraction.numerator, declared.fraction.denominator)
    if share is not None and share.numerator == 0:
        return NO_FILTERS
    whole = share is None or share.numerator >= share.denominator
    return Filtered(mirrors=(Mirror(upstream=resolved.upstream, share=None if whole else share),))


def share_of(numerator: int, denominator: int) -> Fraction:
    """The nearest share in the denominators that proxies know."""
    divisor = gcd(numerator, denominator) or 1
    for known in (100, _TAKE_ALL):
        if known % (denominator // divisor) == 0:
            return Fraction(numerator=numerator * known // denominator, denominator=known)
    return Fraction(numerator=round(numerator * 1_000_000 / denominator), denominator=1_000_000)


def _extension(reference: LocalObjectReference, place: str) -> Filtered:
    return _refusal(
        Problem(
            condition=findings.RESOLVED_REFS,
            reason="InvalidKind",
            field=place,
            message=f"{reference.group}/{reference.kind} is no filter that Portway knows; requests answer 500",
            remedy="remove the filter",
        )
    )


def path_rewrite(declared: HTTPPathModifier) -> PathRewrite:
    if declared.type is PathModifierType.FULL_PATH:
        return PathRewrite(kind=PathRewriteKind.FULL, value=declared.replace_full_path or "/")
    return PathRewrite(kind=PathRewriteKind.PREFIX, value=declared.replace_prefix_match or "/")


def _unwritable(declared: HTTPPathModifier | None, place: str) -> Filtered | None:
    """Why a path cannot be put in the place of another; proxies refuse a control character."""
    if declared is None:
        return None
    for field, value in (
        ("replaceFullPath", declared.replace_full_path),
        ("replacePrefixMatch", declared.replace_prefix_match),
    ):
        if problem := _said(value or "", check_header_value(value or "")):
            message = f"{problem}; the requests of the rule answer 500"
            return _refusal(_unsupported(f"{place}.{field}", message, "write it without control characters"))
    return None


def _rewrite(declared: HTTPURLRewriteFilter) -> Filtered:
    return Filtered(path=None if declared.path is None else path_rewrite(declared.path), host=declared.hostname or "")


def _cors(declared: HTTPCORSFilter) -> CorsPolicy:
    return CorsPolicy(
        allow_origins=declared.allow_origins,
        allow_methods=tuple(method.value for method in declared.allow_methods),
        allow_headers=declared.allow_headers,
        expose_headers=declared.expose_headers,
        allow_credentials=bool(declared.allow_credentials),
        max_age=timedelta(seconds=declared.max_age),
    )


def _auth(ctx: Context, declared: HTTPExternalAuthFilter, place: str, use: Use) -> Filtered:
    grpc = declared.protocol is ExternalAuthProtocol.GRPC
    asked = msgspec.structs.replace(
        use,
        settings=backends.GRPC_SETTINGS if grpc else backends.HTTP_SETTINGS,
        consequence="nobody can be asked, so requests are refused",
    )
    resolved = backends.resolve(ctx, declared.backend_ref, f"{place}.backendRef", asked)
    http = declared.http
    allowed = declared.grpc.allowed_headers if declared.grpc is not None else ()
    auth = ExternalAuth(
        upstream=resolved.upstream,
        grpc=grpc,
        path=_auth_path(http.path or "") if http is not None else "",
        request_headers=http.allowed_headers if http is not None else allowed,
        response_headers=http.allowed_response_headers if http is not None else (),
        max_body_bytes=declared.forward_body.max_size if declared.forward_body is not None else 0,
    )
    return Filtered(auth=auth, problems=() if resolved.problem is None else (resolved.problem,))


def _auth_path(declared: str) -> str:
    """The prefix of the check's path. The API takes one without a slash before it, which proxies refuse, and with the
    filter the whole host."""
    return declared if not declared or declared.startswith("/") else f"/{declared}"
