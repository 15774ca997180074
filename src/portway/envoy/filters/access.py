"""Client addresses that may pass; others get 403. The client's address is what the connection manager found out: the
peer, or what trusted proxies said."""

import ipaddress

from envoy.config.core.v3 import address_pb2 as addressv3
from envoy.config.rbac.v3 import rbac_pb2 as rbacv3
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbacv3

from portway.model.route import AccessList

NAME = "access"


def base() -> http_rbacv3.RBAC:
    """No rules: everybody passes."""
    return http_rbacv3.RBAC()


def build_access(access: AccessList) -> http_rbacv3.RBACPerRoute:
    """Whoever is on the list of those allowed, if there is one, and not on the list of those denied."""
    principals: list[rbacv3.Principal] = []
    if access.allow:
        principals.append(_any_of(access.allow))
    if access.deny:
        principals.append(rbacv3.Principal(not_id=_any_of(access.deny)))
    policy = rbacv3.Policy(permissions=[rbacv3.Permission(any=True)])
    if principals:
        policy.principals.add().and_ids.ids.extend(principals)
    else:
        policy.principals.add(any=True)
    rules = rbacv3.RBAC(action=rbacv3.RBAC.ALLOW, policies={NAME: policy})
    return http_rbacv3.RBACPerRoute(rbac=http_rbacv3.RBAC(rules=rules))


def cidr_range(cidr: str) -> addressv3.CidrRange:
    """A CIDR or a single address, as Envoy has it. Raises `ValueError` if it is none: whoever declares one checks."""
    network = ipaddress.ip_network(cidr, strict=False)
    built = addressv3.CidrRange(address_prefix=str(network.network_address))
    built.prefix_len.value = network.prefixlen
    return built


def _any_of(cidrs: tuple[str, ...]) -> rbacv3.Principal:
    principal = rbacv3.Principal()
    principal.or_ids.ids.extend(rbacv3.Principal(remote_ip=cidr_range(cidr)) for cidr in cidrs)
    return principal
