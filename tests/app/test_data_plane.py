"""What is set of the control plane and is about proxies reaches those that it starts."""

from datetime import timedelta

import pytest

from portway.app.control_plane import data_plane
from portway.infra.kubernetes.data_plane import DataPlane
from portway.settings import make_settings


def plane(**environment: str) -> DataPlane:
    return data_plane(make_settings({}, environment, {}), "portway-system")


def test_times_and_limits_are_passed_on() -> None:
    made = plane(PORTWAY_WITHDRAWAL_TIME="20s", PORTWAY_DRAIN_TIME="2m", PORTWAY_MAX_CONNECTIONS="1000")
    assert (made.withdrawal, made.drain) == (timedelta(seconds=20), timedelta(minutes=2))
    assert made.variables == {"PORTWAY_MAX_CONNECTIONS": "1000"}


@pytest.mark.parametrize(
    ("pod_ips", "address"),
    [
        ("10.0.0.5", "0.0.0.0"),  # the Node may have no IPv6
        ("fd00::5", "::"),
        ("10.0.0.5,fd00::5", "::"),  # load balancers ask in either family
    ],
)
def test_health_is_answered_in_all_ip_families_of_the_cluster(pod_ips: str, address: str) -> None:
    assert plane(PORTWAY_POD_IPS=pod_ips).any_address == address


def test_what_is_not_set_is_as_proxies_have_it_anyway() -> None:
    made, default = plane(), DataPlane(image="", control_plane="", authorities="", controller="")
    assert (made.withdrawal, made.drain, made.variables) == (default.withdrawal, default.drain, {})
