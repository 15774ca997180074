"""The access log: one JSON object per request, with the route's name and so the object that routed it."""

from functools import lru_cache

from envoy.config.accesslog.v3 import accesslog_pb2 as accesslogv3
from envoy.config.core.v3 import substitution_format_string_pb2 as format_stringv3
from envoy.extensions.access_loggers.file.v3 import file_pb2 as filev3

from portway.envoy.filters import original
from portway.envoy.messages import typed
from portway.model.edge import Edge

STANDARD_OUTPUT = "/dev/stdout"

HTTP_FIELDS: tuple[tuple[str, str], ...] = (
    ("time", "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%"),
    ("method", "%REQ(:METHOD)%"),
    ("authority", original.sent_by_client(":AUTHORITY")),
    ("path", original.sent_by_client(":PATH")),
    ("protocol", "%PROTOCOL%"),
    ("status", "%RESPONSE_CODE%"),
    ("flags", "%RESPONSE_FLAGS%"),
    ("details", "%RESPONSE_CODE_DETAILS%"),
    ("duration_ms", "%DURATION%"),
    ("upstream_ms", "%RESPONSE_DURATION%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("upstream", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_address", "%UPSTREAM_HOST%"),
    ("upstream_error", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("tries", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
    ("route", "%ROUTE_NAME%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("client", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("tls", "%DOWNSTREAM_TLS_VERSION%"),
    ("server_name", "%REQUESTED_SERVER_NAME%"),
)
"""Field and Envoy's command operator; an operator that yields nothing leaves its field out. Numbers stay numbers."""

CONNECTION_FIELDS: tuple[tuple[str, str], ...] = (
    ("time", "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%"),
    ("flags", "%RESPONSE_FLAGS%"),
    ("details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("duration_ms", "%DURATION%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("upstream", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_address", "%UPSTREAM_HOST%"),
    ("upstream_error", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("chain", "%FILTER_CHAIN_NAME%"),
    ("client", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
    ("tls", "%DOWNSTREAM_TLS_VERSION%"),
    ("server_name", "%REQUESTED_SERVER_NAME%"),
)
"""The same for TCP and TLS that is passed through."""


def build_access_logs(edge: Edge, fields: tuple[tuple[str, str], ...] = HTTP_FIELDS) -> list[accesslogv3.AccessLog]:
    """One access log, or none if none is wanted."""
    log = _access_log(edge.access_log, fields)
    return [] if log is None else [log]


@lru_cache(maxsize=16)
def _access_log(path: str, fields: tuple[tuple[str, str], ...]) -> accesslogv3.AccessLog | None:
    if not path:
        return None
    wanted = format_stringv3.SubstitutionFormatString(omit_empty_values=True)
    for name, operator in fields:
        wanted.json_format[name] = operator
    file = filev3.FileAccessLog(path=STANDARD_OUTPUT if path == "-" else path, log_format=wanted)
    return accesslogv3.AccessLog(name="envoy.access_loggers.file", typed_config=typed(file))
