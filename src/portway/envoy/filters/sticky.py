"""Stickiness by a cookie that holds the endpoint's address, so that it survives restarts of Portway and Envoy."""

from collections.abc import Iterable, Iterator

from envoy.extensions.filters.http.stateful_session.v3 import stateful_session_pb2 as stateful_sessionv3
from envoy.extensions.http.stateful_session.cookie.v3 import cookie_pb2 as cookie_statev3

from portway.envoy.messages import duration, extension
from portway.model.route import StickyCookie

NAME = "sticky"


def base() -> stateful_sessionv3.StatefulSession:
    return stateful_sessionv3.StatefulSession()


def build_sticky(sticky: StickyCookie) -> stateful_sessionv3.StatefulSessionPerRoute:
    """The cookie of a route; the cluster decides which endpoints it may still name (`override_host_status`)."""
    state = cookie_statev3.CookieBasedSessionState()
    state.cookie.name = sticky.name
    state.cookie.path = sticky.path
    if sticky.ttl:
        state.cookie.ttl.CopyFrom(duration(sticky.ttl))
    for name, value in cookie_attributes(sticky.attributes):
        state.cookie.attributes.add(name=name, value=value)
    session = stateful_sessionv3.StatefulSession(
        session_state=extension("envoy.http.stateful_session.cookie", state), strict=sticky.strict
    )
    return stateful_sessionv3.StatefulSessionPerRoute(stateful_session=session)


def cookie_attributes(attributes: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Those that Envoy has to be told: it writes HttpOnly on its cookies by itself, and would write it twice."""
    return (attribute for attribute in attributes if attribute[0].lower() != "httponly")
