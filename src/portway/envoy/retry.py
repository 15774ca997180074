"""Retries: a default on every cluster, and on the routes that deviate from it.

The default repeats what is safe to repeat whatever the method, as the request never reached an application: the
connection failed, the stream was refused, or it was reset before the request was sent. Each try goes to another
endpoint, 1 ms after the last. It stands on the cluster and not on routes, since a retry policy with a host predicate on
each route makes a change of a virtual host cost Envoy twice as much (docs/design/route-shapes.md). It overrides what
routes say (Envoy 1.40), so these use a variant of the upstream without it (`model.upstream.for_retries`).
"""

from datetime import timedelta

from envoy.config.route.v3 import route_components_pb2 as routev3
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2 as previous_hostsv3

from portway.envoy.messages import duration, typed
from portway.model.route import RetryCause, RetryPolicy

DEFAULT_RETRY = RetryPolicy(attempts=2)
"""Two further tries, as nginx's `proxy_next_upstream_tries 3` of ingress-nginx."""

BACK_OFF = timedelta(milliseconds=1)
"""Envoy's 25 ms would hold a request back that another endpoint answers at once."""

HOST_SELECTION_ATTEMPTS = 100
"""How often the balancer may be asked for an endpoint that was not tried yet. One that refuses seems idle, so the only
one of three that does not is drawn one time in nine: 25 times not in one retry of twenty, 100 times not in one of a
hundred thousand. A draw takes less than a microsecond."""

UNSAFE_CAUSES = frozenset({RetryCause.RESET, RetryCause.TIMEOUT, RetryCause.STATUS})
"""Causes after which the application may have seen the request."""

NON_IDEMPOTENT_METHODS = ("POST", "LOCK", "PATCH")
"""nginx's list (`proxy_next_upstream non_idempotent`); RFC 9110 §9.2.2."""

# A try that times out is a local reset to Envoy, so `reset` covers both; `connect-failure` does not cover a connection
# that breaks before the request is sent, which is as safe.
_CONDITIONS = {
    RetryCause.CONNECT: "connect-failure,refused-stream,reset-before-request",
    RetryCause.RESET: "reset",
    RetryCause.TIMEOUT: "reset",
    RetryCause.STATUS: "retriable-status-codes",
}


def depends_on_method(policy: RetryPolicy) -> bool:
    """Whether requests that are not idempotent need another policy, `safe_part`."""
    return not policy.non_idempotent and policy.attempts > 0 and bool(policy.causes & UNSAFE_CAUSES)


def safe_part(policy: RetryPolicy) -> RetryPolicy:
    """What is left of a policy for a request that may not be repeated once it was sent."""
    return RetryPolicy(
        attempts=policy.attempts,
        causes=policy.causes & frozenset({RetryCause.CONNECT}),
        per_try=policy.per_try,
        per_try_idle=policy.per_try_idle,
        backoff=policy.backoff,
    )


def build_retry(policy: RetryPolicy) -> routev3.RetryPolicy:
    """Envoy's retry policy. Without attempts or causes one that never retries, which overrides the cluster's."""
    built = routev3.RetryPolicy()
    if policy.per_try is not None:
        built.per_try_timeout.CopyFrom(duration(policy.per_try))
    if policy.per_try_idle is not None:
        built.per_try_idle_timeout.CopyFrom(duration(policy.per_try_idle))
    if policy.attempts == 0 or not policy.causes:
        built.num_retries.value = 0
        return built
    conditions = {_CONDITIONS[cause]: None for cause in sorted(policy.causes)}
    built.retry_on = ",".join(conditions)
    built.num_retries.value = policy.attempts
    built.retriable_status_codes.extend(policy.statuses)
    predicate = built.retry_host_predicate.add(name="envoy.retry_host_predicates.previous_hosts")
    predicate.typed_config.CopyFrom(typed(previous_hostsv3.PreviousHostsPredicate()))
    built.host_selection_retry_max_attempts = HOST_SELECTION_ATTEMPTS
    back_off = policy.backoff or BACK_OFF
    built.retry_back_off.base_interval.CopyFrom(duration(back_off))
    return built
