"""Key material: what proxies would refuse is found before they see it, and said."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from portway.app.fallback import load_fallback_certificate
from portway.translate.certificates import covers, expiry_problem, parse_certificate
from tests.kit.certificates import Authority

AUTHORITY = Authority()
GOOD = AUTHORITY.issue("shop.example", "*.shop.example")
OTHER = AUTHORITY.issue("shop.example")
MISMATCH = AUTHORITY.issue_mismatching("shop.example")


def encrypted(pem: str) -> str:
    key = load_pem_private_key(pem.encode(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode()


PROBLEMS = {
    "good": (GOOD.certificate, GOOD.key, ""),
    "no certificate": ("nothing", GOOD.key, "tls.crt holds no PEM certificates that can be read"),
    "no key": (GOOD.certificate, "nothing", "tls.key holds no PEM private key that can be read"),
    "another key": (
        MISMATCH.certificate,
        MISMATCH.key,
        "tls.key does not belong to the first certificate of tls.crt",
    ),
    "encrypted key": (GOOD.certificate, encrypted(GOOD.key), "tls.key is encrypted"),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_what_is_wrong_with_a_certificate(case: str) -> None:
    certificate, key, expected = PROBLEMS[case]
    found = parse_certificate(certificate.encode(), key.encode(), ())
    assert found.problem == expected
    assert bool(found.remedy) == bool(expected)
    assert (found.secret is not None) == (not expected)


def test_names_and_expiry_are_known() -> None:
    found = parse_certificate(GOOD.certificate.encode(), GOOD.key.encode(), ()).secret
    assert found is not None
    assert found.names == ("*.shop.example", "shop.example")
    assert expiry_problem(found) == ""
    assert found.not_after is not None
    assert "expired on" in expiry_problem(found, found.not_after + timedelta(seconds=1))
    assert "redacted" in repr(found.key)


COVERED = {
    ("shop.example", "shop.example"): True,
    ("SHOP.example", "shop.example"): True,
    ("a.shop.example", "*.shop.example"): True,
    ("a.b.shop.example", "*.shop.example"): False,  # one label (RFC 9525 §6.3)
    ("shop.example", "*.shop.example"): False,
    ("example", "*."): False,
}


@pytest.mark.parametrize(("host", "name"), COVERED)
def test_a_wildcard_covers_one_label(host: str, name: str) -> None:
    assert covers((name,), host) is COVERED[host, name]


Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
KEYS: dict[str, tuple[Key, str]] = {
    "RSA 1024": (rsa.generate_private_key(65537, 1024), "make one of 2048 bits or more"),  # noqa: S505 - that is the point
    "RSA 2048": (rsa.generate_private_key(65537, 2048), ""),
    "P-256": (ec.generate_private_key(ec.SECP256R1()), ""),
    "P-384": (ec.generate_private_key(ec.SECP384R1()), ""),
    "secp256k1": (ec.generate_private_key(ec.SECP256K1()), "use P-256, P-384 or P-521"),
    "Ed25519": (ed25519.Ed25519PrivateKey.generate(), "use RSA or ECDSA"),
}


@pytest.mark.parametrize("case", KEYS)
def test_keys_that_proxies_do_not_take_are_named(case: str) -> None:
    key, expected = KEYS[case]
    now = datetime.now(UTC)
    name = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    signed = builder.sign(key, None if case == "Ed25519" else hashes.SHA256())
    pem = signed.public_bytes(Encoding.PEM), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    found = parse_certificate(*pem, ())
    assert expected in found.remedy
    assert bool(expected) == bool(found.problem)


def test_the_fallback_is_made_once_and_renewed_in_time(tmp_path: Path) -> None:
    first = load_fallback_certificate(tmp_path)
    assert load_fallback_certificate(tmp_path).certificates == first.certificates
    assert (tmp_path / "fallback-certificate.pem").stat().st_mode & 0o777 == 0o600
    later = load_fallback_certificate(tmp_path, datetime.now(UTC) + timedelta(days=340))
    assert later.certificates != first.certificates
