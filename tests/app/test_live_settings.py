"""Which settings change while Portway runs."""

from datetime import timedelta

from portway.app.live_settings import NEEDS_RESTART, updated
from portway.settings import Edge, Host, Settings, all_settings

NOW = Settings(edge=Edge(http_port=8080, zone="a"), host=Host(drain_time=timedelta(seconds=5)))


def test_what_is_compiled_takes_effect() -> None:
    wanted = Settings(edge=Edge(http_port=8081, zone="a", hsts=True), host=NOW.host)
    assert updated(NOW, wanted) == (wanted, ("hsts", "http-port"), ())


def test_what_the_process_was_made_from_stays_and_is_named() -> None:
    wanted = Settings(edge=Edge(http_port=8080, zone="b", hsts=True), host=Host(drain_time=timedelta(seconds=9)))
    settings, live, late = updated(NOW, wanted)
    assert (settings.edge.zone, settings.edge.hsts, settings.host) == ("a", True, NOW.host)
    assert (live, late) == (("hsts",), ("drain-time", "zone"))


def test_what_needs_a_restart_are_settings() -> None:
    assert {each.field for each in all_settings() if each.branch == "edge"} >= NEEDS_RESTART
