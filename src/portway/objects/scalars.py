"""Scalar types of the Kubernetes APIs: strings and numbers with their bounds, written once.

A struct's field names one of these types, so the bound is checked while the object is decoded and the same type
explains itself in a verdict (`description` says in words what is allowed).

Two rules hold for every pattern here. It ends in `\\Z`, since Python's `$` lets a trailing line break through, which
the API server's RE2 does not. And no two neighbouring repetitions can match the same text: Python's `re` would need
exponential time for a hostile value.

Source: Gateway API v1.7 Go types (`shared_types.go`, `object_reference_types.go`), RFC 1123 §2.1 and Kubernetes,
"Object Names and IDs". Not here: rules about several fields, see `portway.objects.rules`.
"""

import binascii
from datetime import timedelta
from typing import Annotated, Final, final

import msgspec

from portway.objects import durations

INT32_MAX: Final = 2**31 - 1
"""The API server decodes these fields into Go's int32."""

_LABEL: Final = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN: Final = rf"{_LABEL}(?:\.{_LABEL})*"
_TOKEN: Final = r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+"  # noqa: S105 - RFC 9110 §5.6.2, "token"
_PATH_CHARACTER: Final = r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})"

DNS_LABEL: Final = rf"^{_LABEL}\Z"
DNS_SUBDOMAIN: Final = rf"^{_SUBDOMAIN}\Z"
HOSTNAME: Final = rf"^(?:\*\.)?{_SUBDOMAIN}\Z"
QUALIFIED_NAME: Final = rf"^(?:{_SUBDOMAIN}/)?(?:[A-Za-z0-9][-A-Za-z0-9_.]{{0,61}})?[A-Za-z0-9]\Z"
"""Name of a label or annotation: an optional DNS prefix, then a name of up to 63 characters."""
QUALIFIED_NAME_MAX: Final = 253 + 1 + 63
LABEL_VALUE: Final = r"^(?:(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z"
DOMAIN_PREFIXED_PATH: Final = rf"^{_SUBDOMAIN}/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+\Z"
URL_PATH: Final = rf"^{_PATH_CHARACTER}+\Z"
ROOTED_URL_PATH: Final = rf"^/{_PATH_CHARACTER}*\Z"
HTTP_TOKEN: Final = rf"^{_TOKEN}\Z"
# `[!-~]+([\t ]?[!-~]+)*` in the CRDs; the same language with a separator that is not optional, so that there is one way
# to match a text instead of exponentially many.
FIELD_VALUE: Final = r"^[!-~]+(?:[\t ][!-~]+)*\Z"
CORS_ORIGIN: Final = r"^(?:\*|https?://(?:(?:\*\.)?(?:[a-zA-Z0-9\-]+\.)*[a-zA-Z0-9-]+|\*)(?::[0-9]{1,5})?)\Z"
URI: Final = r"^[^:/?#]+://[^/?#]*"
ADDRESS_TYPE: Final = rf"^Hostname|IPAddress|NamedAddress|{_SUBDOMAIN}/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+\Z"
"""Anchored as the CRD has it: only the first alternative at the start, only the last at the end."""
QUANTITY: Final = r"^(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?\Z"
"""An amount of a resource (Kubernetes, "Quantity"); of nothing below zero."""
PERCENT: Final = r"^(?:100|[0-9]{1,2})%\Z"
PROTOCOL: Final = rf"^[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?\Z|{_SUBDOMAIN}/[A-Za-z0-9]+\Z"
WELL_KNOWN_CA: Final = rf"^(?:System|{_SUBDOMAIN}/(?:[A-Za-z0-9][-A-Za-z0-9_.]{{0,61}})?[A-Za-z0-9])\Z"


@final
class Duration(timedelta):
    """A duration in a declared object; written as GEP-2257 has it (`1h30m`, `500ms`). A `timedelta` for its readers."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Read a GEP-2257 duration.

        Raises:
            ValueError: `text` is no such duration; the message says why.
        """
        return cls(milliseconds=durations.parse_milliseconds(text))

    def __str__(self) -> str:
        try:
            return durations.format_duration(self)
        except ValueError:
            # Four parts can add up to more than can be written again; who prints an object must not fail.
            return f"{self // timedelta(hours=1)}h"

    def __repr__(self) -> str:
        return f"Duration({self})"


@final
class SecretBytes:
    """Bytes of a Secret. Neither `repr` nor an encoder shows them; `reveal()` is the one way to them."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The bytes themselves, for what has to use them (TLS)."""
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretBytes) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return f"<redacted, {len(self._value):,} bytes>"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("the bytes of a Secret are not serialised")


def encode_hook(value: object) -> object:
    """What `msgspec` encoders write for our own scalar types: durations as text, secrets redacted.

    Raises:
        NotImplementedError: another type, as msgspec asks of a hook.
    """
    if isinstance(value, SecretBytes | Duration):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} has no encoding")


def decode_hook(wanted: type, value: object) -> object:
    """How `msgspec` decodes our own scalar types.

    Raises:
        ValueError: `value` does not say one; msgspec makes a `ValidationError` of it.
        NotImplementedError: another type.
    """
    if not isinstance(value, str):
        raise ValueError(f"expected a string, found {value!r:.80}")  # noqa: TRY004 - what msgspec turns into its own
    if wanted is Duration:
        return Duration.parse(value)
    if wanted is SecretBytes:
        return SecretBytes(binascii.a2b_base64("".join(value.split()), strict_mode=True))
    raise NotImplementedError(f"{wanted.__name__} has no decoding")


ObjectName = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
"""A reference's name; as in the CRDs only its length is bounded."""
Namespace = Annotated[
    str,
    msgspec.Meta(
        pattern=DNS_LABEL,
        min_length=1,
        max_length=63,
        description="lower-case letters, digits and '-', with a letter or digit at both ends",
    ),
]
Group = Annotated[
    str,
    msgspec.Meta(
        pattern=rf"^\Z|{DNS_SUBDOMAIN}",
        max_length=253,
        description='an API group such as gateway.networking.k8s.io, or "" for the core group',
    ),
]
KindName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[a-zA-Z](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?\Z",
        min_length=1,
        max_length=63,
        description="a kind such as Service",
    ),
]
SectionName = Annotated[
    str,
    msgspec.Meta(
        pattern=DNS_SUBDOMAIN,
        min_length=1,
        max_length=253,
        description="lower-case letters, digits, '-' and '.', with a letter or digit at both ends",
    ),
]
Hostname = Annotated[
    str,
    msgspec.Meta(
        pattern=HOSTNAME,
        min_length=1,
        max_length=253,
        description="a lower-case host name, optionally with '*.' as its first label",
    ),
]
PreciseHostname = Annotated[
    str,
    msgspec.Meta(
        pattern=DNS_SUBDOMAIN, min_length=1, max_length=253, description="a lower-case host name without wildcard"
    ),
]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Weight = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
PositiveInt32 = Annotated[int, msgspec.Meta(ge=1, le=INT32_MAX)]
NonNegativeInt32 = Annotated[int, msgspec.Meta(ge=0, le=INT32_MAX)]
Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]
HeaderName = Annotated[
    str,
    msgspec.Meta(pattern=HTTP_TOKEN, min_length=1, max_length=256, description="an HTTP field name (RFC 9110 §5.1)"),
]
HeaderValue = Annotated[
    str,
    msgspec.Meta(
        pattern=FIELD_VALUE,
        min_length=1,
        max_length=4096,
        description="visible ASCII characters, with single spaces or tabs between them",
    ),
]
"""The Standard channel bounds only the length; see `portway.objects.channels`."""
GRPCHeaderValue = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
AllowedOrigin = Annotated[
    str,
    msgspec.Meta(
        pattern=CORS_ORIGIN,
        min_length=1,
        max_length=253,
        description="'*', or an origin scheme://host[:port], whose host may begin with '*.'",
    ),
]
ControllerName = Annotated[
    str,
    msgspec.Meta(
        pattern=DOMAIN_PREFIXED_PATH,
        min_length=1,
        max_length=253,
        description="a path with a domain before it, such as example.net/gateway-controller",
    ),
]
AnnotationValue = Annotated[str, msgspec.Meta(max_length=4096)]
LabelValue = Annotated[
    str,
    msgspec.Meta(
        pattern=LABEL_VALUE,
        max_length=63,
        description="letters, digits, '-', '_' and '.', with a letter or digit at both ends, or empty",
    ),
]
