"""Settings: where they come from, and what is said of those that cannot be used."""

import contextlib
import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.setting_checks import CIPHERS
from portway.settings import Edge, Settings, SettingsError, all_settings, make_settings, parse_value


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


def test_cipher_suites_may_be_grouped() -> None:
    given = ("[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]", "AES128-SHA")
    assert make_settings({"tls_ciphers": given}, {}, {}).edge.tls_ciphers == given


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
    ('{"http_port": "x"}', "", ""): '--http-port: "x" is not a whole number',
    ("", '{"PORTWAY_HTTP_PORT": "70000"}', ""): 'PORTWAY_HTTP_PORT: "70000" is not a port (1 to 65535)',
    (
        "",
        '{"PORTWAY_HTP_PORT": "1"}',
        "",
    ): "environment: PORTWAY_HTP_PORT is no setting; did you mean PORTWAY_HTTP_PORT?",
    ("", "", '{"htpp-port": 80}'): "s.yaml: htpp-port is no setting; did you mean http-port?",
    ("", "", '{"proxy-protocol": "maybe"}'): 's.yaml: proxy-protocol: "maybe" is neither true nor false',
    ("", "", '{"read-timeout": "20"}'): (
        's.yaml: read-timeout: "20" is not a duration like 10s, 1m30s or 500ms; did you mean 20s?'
    ),
    ("", "", '{"tls-min-version": "1.1"}'): 's.yaml: tls-min-version: "1.1" is none of 1.2, 1.3',
    # Of several values the one that is wrong is named.
    ("", "", '{"trusted-proxies": ["10.0.0.0/8", "10.0.0.1/8"]}'): (
        's.yaml: trusted-proxies: "10.0.0.1/8" is not a network: bits are set behind its prefix; '
        "did you mean 10.0.0.0/8?"
    ),
    ('{"bind_addresses": ["127.0.0.1", "localhost"]}', "", ""): '--bind-address: "localhost" is not an IP address',
    ('{"admin_address": "9902"}', "", ""): '--admin-address: "9902" is not HOST:PORT',
    ("", "", '{"http-port": null}'): "s.yaml: http-port: has no value",
    ("", "", '{"http-port": [80]}'): "s.yaml: http-port: takes one value, not [80]",
    ("", "", '{"annotation-prefix": {"a": "b"}}'): "s.yaml: annotation-prefix: takes one value, not {'a': 'b'}",
    # What Envoy would refuse with a whole listener, or what nobody would notice.
    ('{"default_certificate": "wildcard"}', "", ""): (
        '--default-certificate: "wildcard" is not of the form namespace/name'
    ),
    ('{"statistics_for": ["shop", "a/b/c"]}', "", ""): (
        '--statistics-for: "a/b/c" is not a namespace or a Service as namespace/name'
    ),
    ('{"tracing_collector": "otel"}', "", ""): '--tracing-collector: "otel" is not HOST:PORT',
    ('{"server_header": "a\\nb"}', "", ""): (
        '--server-header: "a\nb" has control characters, which no header field may have'
    ),
    ('{"annotation_prefix": "nginx.ingress.kubernetes.io/"}', "", ""): (
        '--annotation-prefix: "nginx.ingress.kubernetes.io/" is not a prefix of annotations like '
        "nginx.ingress.kubernetes.io"
    ),
    ('{"tls_ciphers": ["ECDHE-RSA-AES128-GCM-SHA265"]}', "", ""): (
        '--tls-cipher: "ECDHE-RSA-AES128-GCM-SHA265" is no cipher suite of Envoy; '
        "did you mean ECDHE-RSA-AES128-GCM-SHA256?"
    ),
    ('{"tls_ciphers": ["[AES128-SHA|ECDHE-RSA-AES128]"]}', "", ""): (
        '--tls-cipher: "[AES128-SHA|ECDHE-RSA-AES128]" is no cipher suite of Envoy; did you mean ECDHE-RSA-AES128-SHA?'
    ),
    ('{"tls_ciphers": ["FOO"]}', "", ""): f'--tls-cipher: "FOO" is none of {", ".join(CIPHERS)}',
    ('{"tls_ciphers": ["TLS_AES_128_GCM_SHA256"]}', "", ""): (
        '--tls-cipher: "TLS_AES_128_GCM_SHA256" is a cipher suite of TLS 1.3, which is not configured: leave it out'
    ),
    ('{"max_heap_bytes": "1024"}', "", ""): '--max-heap-bytes: "1024" is less than 67108864',
    ('{"http2_window_bytes": "100"}', "", ""): '--http2-window-bytes: "100" is not between 65535 and 2147483647',
    ('{"connect_timeout": "0s"}', "", ""): '--connect-timeout: "0s" is no time at all; write one like 5s',
    ('{"concurrency": "-1"}', "", ""): '--concurrency: "-1" is not between 0 and 1024',
    ('{"status_writes_per_second": "0"}', "", ""): '--status-writes-per-second: "0" is not between 1 and 1000',
    ('{"https_port": "8080", "http_port": "8080"}', "", ""): (
        "http-port and https-port are both 8080: give HTTPS a port of its own"
    ),
}


@pytest.mark.parametrize("given", MISTAKES)
def test_a_mistake_is_named_with_its_place(given: tuple[str, str, str]) -> None:

    flags, environment, file = (json.loads(part or "{}") for part in given)
    with pytest.raises(SettingsError) as found:
        make_settings(flags, environment, file, "s.yaml")
    assert str(found.value) == MISTAKES[given]


def test_what_kubernetes_says_of_a_service_called_portway_is_no_setting() -> None:
    links = {
        "PORTWAY_SERVICE_HOST": "10.0.0.11",
        "PORTWAY_SERVICE_PORT": "80",
        "PORTWAY_SERVICE_PORT_HTTP": "80",
        "PORTWAY_PORT": "tcp://10.0.0.11:80",
        "PORTWAY_PORT_80_TCP": "tcp://10.0.0.11:80",
        "PORTWAY_PORT_80_TCP_ADDR": "10.0.0.11",
        "PORTWAY_HTTP_SERVICE_HOST": "10.0.0.12",  # of a Service portway-http
        "PORTWAY_HTTP_PORT": "tcp://10.0.0.12:80",
    }
    assert make_settings({}, links, {}) == Settings()


@pytest.mark.parametrize("setting", all_settings(), ids=lambda setting: setting.name)
@given(text=st.text(max_size=20))
def test_no_text_raises_anything_else(setting: object, text: str) -> None:
    chosen = next(one for one in all_settings() if one == setting)
    with contextlib.suppress(SettingsError):
        parse_value(chosen, text, "test")


def test_a_network_or_address_counts_once_however_it_is_written() -> None:
    flags = {
        "trusted_proxies": ("127.0.0.1", "10.0.0.0/8", "127.0.0.1/32"),
        "bind_addresses": ("::1", "0:0:0:0:0:0:0:1", "127.0.0.1"),
    }
    edge = make_settings(flags, {}, {}).edge
    assert edge.trusted_proxies == ("127.0.0.1/32", "10.0.0.0/8")
    assert edge.bind_addresses == ("::1", "127.0.0.1")
