"""What there is to know about one annotation, as data.

An entry is all that says how an annotation is read, what it does, how risky it is and what happens when its value makes
no sense; parsing, verdicts and the reference page are made from entries, so that an annotation is added in one place.
The names, values and effects are those of ingress-nginx (its `docs/user-guide/nginx-configuration/annotations.md` and
its parsers); where Portway differs on purpose, the entry's text says so.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, Generic, NamedTuple, TypeVar, cast

import msgspec

T = TypeVar("T")


class Group(StrEnum):
    """Headings of the reference page, in its order."""

    PATHS = "Paths and hosts"
    REDIRECTS = "Redirects"
    UPSTREAM = "Upstream"
    STICKINESS = "Stickiness"
    CANARY = "Canary"
    ACCESS = "Access"
    TLS = "TLS and client certificates"
    AUTHENTICATION = "Authentication"
    LIMITS = "Limits"
    MIRRORING = "Mirroring"
    ERRORS = "Errors"
    BUFFERS = "Buffers and bodies"
    HEADERS = "Headers, logs and traces"
    FIREWALL = "Web application firewall"
    SNIPPETS = "Snippets"
    GONE = "Without effect in ingress-nginx itself"


class Scope(StrEnum):
    LOCATION = "path"
    """The paths of the Ingress that carries the annotation."""
    HOST = "host"
    """All paths of the hosts that the Ingress names, also those of other Ingresses."""


class Risk(StrEnum):
    """What somebody who may set the annotation could do with it; ingress-nginx's levels."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class OnInvalid(StrEnum):
    """What happens to requests while a value makes no sense.

    ingress-nginx keeps serving the last good version of the whole Ingress, silently and until its next restart. Portway
    remembers nothing: what only routes falls back to its default, what protects fails closed.
    """

    DEFAULT = "served with the default"
    DENY = "the Ingress's paths answer 503"


class Remark(NamedTuple):
    """What is to be said about a value that is of the form and may still not mean what its owner thinks."""

    problem: str
    remedy: str


class Annotation(msgspec.Struct, Generic[T], frozen=True, kw_only=True, eq=False):
    """One annotation that Portway honours. Compared by identity."""

    name: str
    """Without the prefix."""
    group: Group
    parse: Callable[[str], T]
    """Raises `ValueError` for a value that is not of `form`; its message, if any, says what is wrong with it."""
    default: T
    form: str
    """What values look like, as it stands after "is not": `a whole number of seconds`."""
    example: str
    text: str
    """What it does, one line or a few."""
    scope: Scope = Scope.LOCATION
    risk: Risk = Risk.LOW
    on_invalid: OnInvalid = OnInvalid.DEFAULT
    remark: Callable[[str], Remark | None] | None = None
    """Asked only for values that `parse` takes."""
    alias: str = ""
    """Another name for the same; it counts only where `name` is absent or empty."""
    default_text: str = ""
    """How the default is called in messages and on the page, where its value does not say it."""


class Unsupported(msgspec.Struct, frozen=True, kw_only=True):
    """One annotation of ingress-nginx that has no effect yet."""

    name: str
    group: Group
    risk: Risk
    protects: bool = False
    """Somebody relies on it for protection: the Ingress's paths answer 503 until it is removed or the operator allows
    to ignore it."""
    harmless: bool = False
    """Ignoring it changes nothing that a client or upstream could notice; said as information only."""
    anyway: tuple[str, ...] = ()
    """Values that ask for what happens anyway: nothing is said about them. `true` and `false` stand for all spellings
    of Go."""
    belongs_to: str = ""
    """The annotation that it tells more about. Where that one stands beside it and is judged, it adds nothing to the
    judgement and is said as information only; alone, it is judged itself."""
    text: str
    """What does the same in Portway, or why there is nothing."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The parsed annotations of one Ingress. Values that were absent or invalid are not in it."""

    values: Mapping[str, object] = msgspec.field(default_factory=dict)
    denied: tuple[str, ...] = ()
    """Why the paths of the Ingress answer 503; empty: they do not."""

    def get(self, annotation: Annotation[T]) -> T:
        """The value, or the entry's default."""
        # The values were made by this very entry's parser, see `reading.py`.
        return cast("T", self.values.get(annotation.name, annotation.default))

    def has(self, annotation: Annotation[T]) -> bool:
        """Whether the annotation is there with a usable value."""
        return annotation.name in self.values


NO_SETTINGS: Final = Settings()
