"""What the proxies of all fleets have in common."""

from collections.abc import Mapping
from datetime import timedelta
from ipaddress import ip_address

import msgspec

from portway.identity.contract import DRAIN_S, WITHDRAWAL_S


class DataPlane(msgspec.Struct, frozen=True, kw_only=True):
    """What all proxies have in common."""

    image: str
    """Of Portway itself, for both roles."""
    control_plane: str
    """`HOST:PORT` of discovery, several with commas between."""
    authorities: str
    """PEM: those that vouch for the control plane."""
    controller: str
    """Label of this Portway (`names.controller_label`)."""
    image_pull_policy: str = ""
    """Empty: the cluster's default."""
    drain: timedelta = timedelta(seconds=DRAIN_S)
    withdrawal: timedelta = timedelta(seconds=WITHDRAWAL_S)
    variables: Mapping[str, str] = {}
    """Further settings of all proxies, by variable (`PORTWAY_MAX_CONNECTIONS`); FleetParameters win."""
    any_address: str = "0.0.0.0"  # noqa: S104 - the kubelet asks from elsewhere
    """What proxies bind their health port on; `::` in a cluster that has IPv6."""


def any_addresses(pod_ips: str) -> tuple[str, ...]:
    """What proxies bind to be reached at all addresses of their pods: for each IP family of the cluster one address.

    Args:
        pod_ips: addresses of our own pod, with commas between (`status.podIPs`): all pods have the same families.
            Empty: nobody knows, so IPv4.
    """
    found = dict.fromkeys(ip_address(text.strip()).version for text in pod_ips.split(",") if text.strip())
    return tuple("::" if version == 6 else "0.0.0.0" for version in found) or ("0.0.0.0",)  # noqa: S104 - of a pod
