"""Access log records as a person reads them."""

import json

import pytest

from portway.cli.access_lines import readable_lines

REQUEST = {
    "time": "2026-01-02T03:04:05.678Z",
    "method": "GET",
    "authority": "shop.test",
    "path": "/pay",
    "status": 200,
    "duration_ms": 3,
    "upstream": "shop/pay:80",
    "upstream_address": "10.0.0.1:80",
    "route": "Ingress/shop/shop",
}
CASES = {
    "a request": (
        REQUEST,
        "03:04:05.678 200 GET http://shop.test/pay → shop/pay:80 at 10.0.0.1:80, 3 ms (Ingress/shop/shop)",
    ),
    "nobody's": (
        {
            **{key: REQUEST[key] for key in ("time", "method", "authority", "path", "duration_ms")},
            "status": 404,
            "details": "route_not_found",
            "tls": "TLSv1.3",
        },
        "03:04:05.678 404 GET https://shop.test/pay → route_not_found, 3 ms",
    ),
    "a connection": (
        {
            "time": "2026-01-02T03:04:05.678Z",
            "client": "192.0.2.1",
            "server_name": "db.test",
            "bytes_received": 5,
            "bytes_sent": 7,
            "duration_ms": 9,
            "upstream": "data/db:5432",
            "upstream_address": "10.0.0.2:5432",
        },
        "03:04:05.678 connection of 192.0.2.1 db.test → data/db:5432 at 10.0.0.2:5432, 9 ms, 5 bytes in, 7 out",
    ),
    # Whoever asks chooses the path, and must not paint the operator's terminal.
    "an attack": (
        {**REQUEST, "path": "/\x1b[2J\x9b"},
        "03:04:05.678 200 GET http://shop.test/\\x1b[2J\\x9b → shop/pay:80 at 10.0.0.1:80, 3 ms (Ingress/shop/shop)",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_lines(case: str) -> None:
    record, line = CASES[case]
    assert readable_lines(json.dumps(record).encode() + b"\n", colours=False) == line + "\n"


def test_what_is_no_record_passes_without_its_control_characters() -> None:
    assert readable_lines(b"not JSON \x1b[0m\n", colours=False) == "not JSON \\x1b[0m\n"
