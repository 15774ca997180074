"""Rules of TLSRoute, TCPRoute and UDPRoute, also those that hold in some versions only.

Source: Gateway API v1.7, validations of `tlsroutes`, `tcproutes`, `udproutes` in the Experimental channel. The Standard
channel serves v1 only.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from portway.objects.l4routes_v1 import TCPRouteSpec, TLSRouteSpec, UDPRouteSpec
from portway.objects.problems import Problem, quoted
from portway.objects.rules.engine import Table, rules
from portway.objects.rules.names import is_ip
from portway.objects.rules.routes import HasRules, parent_refs, rule_names


def _one_rule(spec: HasRules) -> Iterable[Problem]:
    if len(spec.rules) > 1:
        return (Problem(("rules",), f"has {len(spec.rules)} entries, more than the 1 allowed", "make further routes"),)
    return ()


def _hostnames(spec: TLSRouteSpec) -> Iterator[Problem]:
    if not spec.hostnames:
        yield Problem(("hostnames",), "is required, but not set", 'name the hosts (SNI), such as "*.example.com"')
    for index, hostname in enumerate(spec.hostnames):
        if is_ip(hostname):
            problem = f"{quoted(hostname)} is an IP address, which no client sends as server name"
            yield Problem(("hostnames", index), problem, "write a DNS name")


RULES: Final[Table] = dict(
    [rules(TLSRouteSpec, parent_refs), rules(TCPRouteSpec, parent_refs), rules(UDPRouteSpec, parent_refs)]
)

V1_RULES: Final[Table] = dict(
    [rules(TLSRouteSpec, _one_rule, _hostnames), rules(TCPRouteSpec, _one_rule), rules(UDPRouteSpec, _one_rule)]
)
"""v1, and v1alpha3 of TLSRoute."""

V1ALPHA2_RULES: Final[Table] = dict(
    [rules(TLSRouteSpec, rule_names), rules(TCPRouteSpec, rule_names), rules(UDPRouteSpec, rule_names)]
)
"""v1alpha2 takes several rules, and a TLSRoute without hosts."""
