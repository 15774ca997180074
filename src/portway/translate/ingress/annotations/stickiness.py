"""Annotations that keep a client with one endpoint."""

from datetime import timedelta
from enum import StrEnum
from typing import Final

from portway.translate.ingress.annotations import parsers
from portway.translate.ingress.annotations.entry import Annotation, Group, Risk


class AffinityMode(StrEnum):
    BALANCED = "balanced"
    """By consistent hashing of the cookie: when endpoints come or go, some sessions move."""
    PERSISTENT = "persistent"
    """The cookie names the endpoint: a session moves only when its endpoint is gone."""


AFFINITY: Final = Annotation(
    name="affinity",
    group=Group.STICKINESS,
    parse=parsers.one_of({"cookie": True}),
    default=False,
    default_text="none",
    form="cookie",
    example="cookie",
    text="Keeps a client with one endpoint by a cookie that the proxy sets, always HttpOnly.",
)
AFFINITY_MODE: Final = Annotation(
    name="affinity-mode",
    group=Group.STICKINESS,
    risk=Risk.MEDIUM,
    parse=parsers.one_of({mode.value: mode for mode in AffinityMode}),
    default=AffinityMode.BALANCED,
    form="balanced or persistent",
    example="persistent",
    text="balanced: some sessions move when endpoints come or go. persistent: a session stays until its endpoint is"
    " gone.",
)
SESSION_COOKIE_NAME: Final = Annotation(
    name="session-cookie-name",
    group=Group.STICKINESS,
    risk=Risk.MEDIUM,
    parse=parsers.token,
    default="INGRESSCOOKIE",
    form="a cookie name",
    example="route",
    text="Name of the cookie.",
)
SESSION_COOKIE_PATH: Final = Annotation(
    name="session-cookie-path",
    group=Group.STICKINESS,
    risk=Risk.MEDIUM,
    parse=parsers.cookie_attribute,
    default="",
    default_text="the path of the Ingress that matched",
    form="a path",
    example="/shop",
    text="Path of the cookie. With `use-regex` it should be given, since a regular expression is no path.",
)
SESSION_COOKIE_DOMAIN: Final = Annotation(
    name="session-cookie-domain",
    group=Group.STICKINESS,
    risk=Risk.MEDIUM,
    parse=parsers.cookie_attribute,
    default="",
    default_text="none: the host only",
    form="a domain",
    example="example.com",
    text="Domain of the cookie.",
)
SESSION_COOKIE_MAX_AGE: Final = Annotation[timedelta | None](
    name="session-cookie-max-age",
    group=Group.STICKINESS,
    risk=Risk.MEDIUM,
    parse=parsers.seconds,
    default=None,
    default_text="a session cookie",
    form="a whole number of seconds",
    example="172800",
    text="Max-Age of the cookie.",
)
SESSION_COOKIE_EXPIRES: Final = Annotation[timedelta | None](
    name="session-cookie-expires",
    group=Group.STICKINESS,
    risk=Risk.MEDIUM,
    parse=parsers.seconds,
    default=None,
    default_text="a session cookie",
    form="a whole number of seconds",
    example="172800",
    text="Lifetime of the cookie, sent as Max-Age, which means the same; `session-cookie-max-age` wins.",
)
SESSION_COOKIE_SAMESITE: Final = Annotation(
    name="session-cookie-samesite",
    group=Group.STICKINESS,
    parse=parsers.one_of({"none": "None", "lax": "Lax", "strict": "Strict"}, ignore_case=True),
    default="",
    default_text="not sent",
    form="None, Lax or Strict",
    example="Lax",
    text="SameSite of the cookie.",
)
SESSION_COOKIE_SECURE: Final = Annotation[bool | None](
    name="session-cookie-secure",
    group=Group.STICKINESS,
    parse=parsers.boolean,
    default=None,
    default_text="only on HTTPS requests",
    form="true or false",
    example="true",
    text="true: the cookie is always Secure; otherwise only when it is set on an HTTPS request.",
)
SESSION_COOKIE_CHANGE_ON_FAILURE: Final = Annotation(
    name="session-cookie-change-on-failure",
    group=Group.STICKINESS,
    parse=parsers.boolean,
    default=False,
    form="true or false",
    example="true",
    text="true: when the endpoint fails another one is tried and the cookie is set anew. false: the client stays with"
    " its endpoint, also after failures.",
)

TABLE: Final = (
    AFFINITY,
    AFFINITY_MODE,
    SESSION_COOKIE_NAME,
    SESSION_COOKIE_PATH,
    SESSION_COOKIE_DOMAIN,
    SESSION_COOKIE_MAX_AGE,
    SESSION_COOKIE_EXPIRES,
    SESSION_COOKIE_SAMESITE,
    SESSION_COOKIE_SECURE,
    SESSION_COOKIE_CHANGE_ON_FAILURE,
)
