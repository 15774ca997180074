"""Settings: where they come from, and what is said of those that cannot be used."""

import contextlib
import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.settings import Edge, SettingsError, all_settings, make_settings, parse_value


def test_a_flag_beats_a_variable_beats_the_file() -> None:
    file = {"http-port": 1, "https-port": 2, "zone": "a"}
    environment = {"PORTWAY_HTTP_PORT": "11", "PORTWAY_HTTPS_PORT": "12", "HOME": "/"}
    edge = make_settings({"http_port": "21"}, environment, file).edge
    assert (edge.http_port, edge.https_port, edge.zone, edge.max_headers) == (21, 12, "a", Edge().max_headers)


def test_many_values_come_as_repeated_flags_lists_or_with_commas() -> None:
    expected = ("127.0.0.1", "::1")
    assert make_settings({"bind_addresses": ("127.0.0.1", "::1")}, {}, {}).edge.bind_addresses == expected
    assert make_settings({}, {"PORTWAY_BIND_ADDRESS": "127.0.0.1, ::1"}, {}).edge.bind_addresses == expected
    assert make_settings({}, {}, {"bind-address": ["127.0.0.1", "::1"]}).edge.bind_addresses == expected


def test_a_duration_is_written_as_in_gateway_api() -> None:
    assert make_settings({}, {}, {"read-timeout": "1m30s"}).edge.read_timeout == timedelta(seconds=90)


def test_every_setting_has_a_text_and_a_default_that_passes_its_own_checks() -> None:
    for setting in all_settings():
        assert setting.help, setting.name
        if setting.type is not timedelta:
            many = setting.default if isinstance(setting.default, tuple | frozenset) else None
            given = list(many) if many is not None else setting.default
            assert parse_value(setting, given, "default") == setting.default
    names = [setting.name for setting in all_settings()]
    assert len(names) == len(set(names))


MISTAKES = {
    # flags, environment, file: message
    ('{"http_port": "x"}', "", ""): '--http-port: http-port: "x" is not a whole number',
    ("", '{"PORTWAY_HTTP_PORT": "70000"}', ""): 'PORTWAY_HTTP_PORT: http-port: "70000" is not a port (1 to 65535)',
    (
        "",
        '{"PORTWAY_HTP_PORT": "1"}',
        "",
    ): "environment: PORTWAY_HTP_PORT is no setting; did you mean PORTWAY_HTTP_PORT?",
    ("", "", '{"htpp-port": 80}'): "s.yaml: htpp-port is no setting; did you mean http-port?",
    ("", "", '{"proxy-protocol": "maybe"}'): 's.yaml: proxy-protocol: "maybe" is neither true nor false',
    ("", "", '{"read-timeout": "20"}'): 's.yaml: read-timeout: "20" is not a duration like 10s, 1m30s or 500ms',
    ("", "", '{"tls-min-version": "1.1"}'): 's.yaml: tls-min-version: "1.1" is none of 1.2, 1.3',
    ("", "", '{"trusted-proxies": ["10.0.0.1/8"]}'): (
        's.yaml: trusted-proxies: "[\'10.0.0.1/8\']" has "10.0.0.1/8", which is not a network like 10.0.0.0/8'
    ),
    ('{"admin_address": "9902"}', "", ""): '--admin-address: admin-address: "9902" is not HOST:PORT',
}


@pytest.mark.parametrize("given", MISTAKES)
def test_a_mistake_is_named_with_its_place(given: tuple[str, str, str]) -> None:

    flags, environment, file = (json.loads(part or "{}") for part in given)
    with pytest.raises(SettingsError) as found:
        make_settings(flags, environment, file, "s.yaml")
    assert str(found.value) == MISTAKES[given]


@pytest.mark.parametrize("setting", all_settings(), ids=lambda setting: setting.name)
@given(text=st.text(max_size=20))
def test_no_text_raises_anything_else(setting: object, text: str) -> None:
    chosen = next(one for one in all_settings() if one == setting)
    with contextlib.suppress(SettingsError):
        parse_value(chosen, text, "test")
