"""Gateway API: filters and settings that HTTPRoute, GRPCRoute and listeners share.

Source: Gateway API v1.7, `apis/v1/httproute_types.go`, `shared_types.go`.
"""

from enum import StrEnum
from typing import Annotated

import msgspec

from portway.objects.meta import Part
from portway.objects.references_v1 import BackendObjectReference
from portway.objects.scalars import (
    URL_PATH,
    Duration,
    HeaderName,
    HeaderValue,
    NonNegativeInt32,
    Percent,
    PositiveInt32,
)

HeaderNames = Annotated[tuple[str, ...], msgspec.Meta(max_length=64, extra={"unique": True})]


class HTTPHeader(Part, frozen=True, kw_only=True):
    """A field with its value."""

    name: HeaderName
    value: HeaderValue


_Headers = Annotated[tuple[HTTPHeader, ...], msgspec.Meta(max_length=16, extra={"unique_by": ("name",)})]


class HTTPHeaderFilter(Part, frozen=True, kw_only=True):
    """Changes fields: `set` replaces, `add` appends, `remove` removes. Names are case-insensitive."""

    set: _Headers = ()
    add: _Headers = ()
    remove: Annotated[tuple[str, ...], msgspec.Meta(max_length=16, extra={"unique": True})] = ()


class Fraction(Part, frozen=True, kw_only=True):
    """A share of the requests."""

    numerator: NonNegativeInt32
    denominator: PositiveInt32 = 100


class HTTPRequestMirrorFilter(Part, frozen=True, kw_only=True):
    """Sends a copy of (a share of) the requests to another backend and ignores what it answers."""

    backend_ref: BackendObjectReference
    percent: Percent | None = None
    fraction: Fraction | None = None
    """Neither: all requests."""


class ExternalAuthProtocol(StrEnum):
    """How the authorisation service is asked."""

    HTTP = "HTTP"
    GRPC = "GRPC"


class GRPCAuthConfig(Part, frozen=True, kw_only=True):
    """A service that speaks Envoy's ext_authz protocol."""

    allowed_headers: HeaderNames = ()
    """Request fields to send; empty: all."""


class HTTPAuthConfig(Part, frozen=True, kw_only=True):
    """A service that answers over HTTP: 200 allows."""

    path: Annotated[str, msgspec.Meta(pattern=URL_PATH, max_length=1024, description="a URL path")] | None = None
    """Prefix for the request's path; None: none."""
    allowed_headers: HeaderNames = ()
    """Request fields to send besides Host, Method, Path, Content-Length and Authorization."""
    allowed_response_headers: HeaderNames = ()
    """Fields of the service's answer that go to the backend; empty: all but the connection's own."""


class ForwardBodyConfig(Part, frozen=True, kw_only=True):
    """How much of the body the authorisation service sees."""

    max_size: NonNegativeInt32 = 0
    """Bytes; 0: none."""


class HTTPExternalAuthFilter(Part, frozen=True, kw_only=True):
    """Asks a service whether a request may go on (experimental)."""

    protocol: ExternalAuthProtocol
    backend_ref: BackendObjectReference
    grpc: GRPCAuthConfig | None = None
    http: HTTPAuthConfig | None = None
    forward_body: ForwardBodyConfig | None = None


class SessionPersistenceType(StrEnum):
    """What carries the session."""

    COOKIE = "Cookie"
    HEADER = "Header"


class CookieLifetimeType(StrEnum):
    """How long the browser keeps the cookie."""

    PERMANENT = "Permanent"
    SESSION = "Session"


class CookieConfig(Part, frozen=True, kw_only=True):
    """The session's cookie."""

    name: HeaderName | None = None
    """None: the implementation chooses."""
    lifetime_type: CookieLifetimeType = CookieLifetimeType.SESSION
    path: Annotated[str, msgspec.Meta(max_length=1024)] = "/"


class HeaderConfig(Part, frozen=True, kw_only=True):
    """The session's header field."""

    name: HeaderName


class SessionPersistence(Part, frozen=True, kw_only=True):
    """A client stays with its backend (experimental)."""

    type: SessionPersistenceType = SessionPersistenceType.COOKIE
    absolute_timeout: Duration | None = None
    """Longest life of a session; required for a permanent cookie."""
    cookie: CookieConfig | None = None
    header: HeaderConfig | None = None
