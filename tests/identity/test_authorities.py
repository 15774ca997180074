"""How one authority follows another."""

import datetime as dt
from itertools import pairwise

import pytest

from portway.identity.authorities import (
    FORGOTTEN_AFTER,
    LIFETIME,
    REPLACED_AFTER,
    SETTLED_AFTER,
    Authority,
    bundle,
    decode_authorities,
    encode_authorities,
    followed,
    make_authority,
    signer,
)
from portway.identity.certificates import CertificateProblem, load_certificates

BEGIN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
LONGEST_CERTIFICATE = DAY


def after(authorities: tuple[Authority, ...], now: dt.datetime) -> list[str]:
    return [one.name for one in followed(authorities, now)]


def test_the_first_one_signs_at_once() -> None:
    held = followed((), BEGIN)
    assert len(held) == 1
    assert signer(held, BEGIN) is held[0]
    assert followed(held, BEGIN) == held


def test_a_successor_is_published_a_day_before_it_signs() -> None:
    (first,) = followed((), BEGIN)
    assert followed((first,), BEGIN + REPLACED_AFTER - DAY) == (first,)
    made = BEGIN + REPLACED_AFTER
    both = followed((first,), made)
    assert len(both) == 2
    assert signer(both, made) is first
    assert signer(both, made + SETTLED_AFTER) is both[1]
    assert followed(both, made + FORGOTTEN_AFTER - DAY) == both
    assert followed(both, made + FORGOTTEN_AFTER) == (both[1],)


def test_over_years_whoever_signs_was_known_a_day_ago_and_is_believed_until_its_certificates_end() -> None:
    """Each hour somebody may look; a proxy hears of the bundle of that hour a day later at most."""
    held: tuple[Authority, ...] = ()
    states = []
    for hour in range(0, 3 * 365 * 24, 12):
        now = BEGIN + dt.timedelta(hours=hour)
        held = followed(held, now)
        states.append((now, {one.name for one in held}, signer(held, now)))
    for (_, known, _), (_, _, signing) in zip(states[1:], states[3:], strict=False):
        assert signing.name in known
    for (_, _, signing), (_, believed, _) in zip(states, states[2:], strict=False):
        assert signing.name in believed
    assert all(now + LONGEST_CERTIFICATE < signing.end for now, _, signing in states)
    assert len({signing.name for _, _, signing in states}) == 3
    assert all(earlier[0] < later[0] for earlier, later in pairwise(states))


def test_a_clock_that_jumps_ahead_and_back_costs_nobody_their_trust() -> None:
    (first,) = followed((), BEGIN)
    jumped = followed((first,), BEGIN + 2 * LIFETIME)
    assert jumped[0] is first
    back = BEGIN + 10 * DAY
    assert followed(jumped, back) == jumped
    assert signer(jumped, back) is first
    assert signer(jumped, back + REPLACED_AFTER) is first
    assert len(followed(jumped, back + REPLACED_AFTER)) == 3


def test_as_secret_and_back() -> None:
    held = (make_authority(BEGIN), make_authority(BEGIN + DAY))
    data = encode_authorities(held)
    assert decode_authorities(data | {"stranger": b"x"}) == held
    assert [one.subject.rfc4514_string() for one in load_certificates(data["ca.crt"])] == [
        "CN=Portway authority 20260102T000000Z",
        "CN=Portway authority 20260101T000000Z",
    ]
    assert data["ca.crt"] == bundle(held)


@pytest.mark.parametrize("entry", ["authority-20260101T000000Z.key", "authority-20260101T000000Z.crt"])
def test_a_damaged_one_is_named(entry: str) -> None:
    data = encode_authorities((make_authority(BEGIN),)) | {entry: b"-----BEGIN nothing"}
    with pytest.raises(CertificateProblem, match="authority-20260101T000000Z"):
        decode_authorities(data)


def test_keys_are_not_shown() -> None:
    assert "PRIVATE" not in repr(make_authority(BEGIN))
