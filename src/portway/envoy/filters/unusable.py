"""The share of a route whose upstream cannot be used: answered with a status instead of being forwarded.

A weighted share is always a cluster to Envoy, and a `direct_response` cannot have a weight. Routes with a
`runtime_fraction` before the weighted one would distort the others: Envoy draws one number per request and takes both
choices from it. So the share names a cluster that does not exist and enables a fault that answers before the router
looks for it. Held by tests/envoy/test_weights.py.
"""

from envoy.extensions.filters.http.fault.v3 import fault_pb2 as faultv3
from envoy.type.v3 import percent_pb2 as percentv3

NAME = "unusable"


def base() -> faultv3.HTTPFault:
    return faultv3.HTTPFault()


def build_unusable(status: int) -> faultv3.HTTPFault:
    """Answer every request of the share with this status."""
    always = percentv3.FractionalPercent(numerator=100)
    fault = faultv3.HTTPFault(
        abort=faultv3.FaultAbort(http_status=status, percentage=always),
        # Else Envoy counts faults per name of a cluster that nobody knows.
        disable_downstream_cluster_stats=True,
    )
    # The default of the runtime value is no limit, said aloud, since 500s must not run out.
    fault.max_active_faults.value = 2**32 - 1
    return fault
