"""Keeps host and path as the client sent them for the access log, on routes that rewrite one of them.

The log is written at the end, when the router has overwritten both. Envoy would keep the path in
`x-envoy-original-path`, but upstreams would get to see that field (see `router`). Routes that rewrite nothing do
without.
"""

from envoy.config.core.v3 import base_pb2 as basev3
from envoy.config.core.v3 import substitution_format_string_pb2 as format_stringv3
from envoy.extensions.filters.common.set_filter_state.v3 import value_pb2 as valuev3
from envoy.extensions.filters.http.set_filter_state.v3 import set_filter_state_pb2 as set_filter_statev3

from portway.model.route import Forward, Route

NAME = "original"

KEPT = {":PATH": "portway.path", ":AUTHORITY": "portway.authority"}
"""Pseudo-field, and the name under which it is kept."""


def base() -> set_filter_statev3.Config:
    return set_filter_statev3.Config()


def is_wanted(route: Route) -> bool:
    """Whether what goes upstream differs from what the client sent."""
    action = route.action
    return isinstance(action, Forward) and bool(
        action.path is not None or action.host or action.host_from_upstream or any(one.host for one in action.upstreams)
    )


def build_original() -> set_filter_statev3.Config:
    return set_filter_statev3.Config(
        on_request_headers=[
            valuev3.FilterStateValue(
                object_key=key,
                factory_key="envoy.string",
                format_string=format_stringv3.SubstitutionFormatString(
                    text_format_source=basev3.DataSource(inline_string=f"%REQ({field})%")
                ),
            )
            for field, key in KEPT.items()
        ]
    )


def sent_by_client(field: str) -> str:
    """Access log operator for one of `KEPT`: what was kept, otherwise what stands in the request."""
    kept = f'{{"command":"FILTER_STATE","param":"{KEPT[field]}:PLAIN"}}'
    return f'%COALESCE({{"operators":[{kept},{{"command":"REQ","param":"{field}"}}]}})%'
