"""What is set of the control plane and is about proxies reaches those that it starts."""

from datetime import timedelta

from portway.app.control_plane import data_plane
from portway.infra.kubernetes.data_plane import DataPlane
from portway.settings import make_settings


def plane(**environment: str) -> DataPlane:
    return data_plane(make_settings({}, environment, {}), "portway-system")


def test_times_and_limits_are_passed_on() -> None:
    made = plane(PORTWAY_WITHDRAWAL_TIME="20s", PORTWAY_DRAIN_TIME="2m", PORTWAY_MAX_CONNECTIONS="1000")
    assert (made.withdrawal, made.drain) == (timedelta(seconds=20), timedelta(minutes=2))
    assert made.variables == {"PORTWAY_MAX_CONNECTIONS": "1000"}


def test_what_is_not_set_is_as_proxies_have_it_anyway() -> None:
    made, default = plane(), DataPlane(image="", control_plane="", authorities="", controller="")
    assert (made.withdrawal, made.drain, made.variables) == (default.withdrawal, default.drain, {})
