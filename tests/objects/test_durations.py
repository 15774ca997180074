"""Durations as GEP-2257 has them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.objects.durations import format_duration, parse_duration, parse_milliseconds
from portway.objects.scalars import Duration

GOOD = {
    "0s": 0,
    "0h0m0s0ms": 0,
    "1ms": 1,
    "500ms": 500,
    "1s": 1_000,
    "90s": 90_000,
    "1m": 60_000,
    "1h30m": 5_400_000,
    "1s1s": 2_000,  # parts are added up
    "5m1h": 3_900_000,  # in any order
    "99999h": 359_996_400_000,
}


@pytest.mark.parametrize("text", GOOD)
def test_parse(text: str) -> None:
    assert parse_milliseconds(text) == GOOD[text]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "10",
        "s",
        "1.5s",
        "-1s",
        "+1s",
        "1 s",
        " 1s",
        "1s ",
        "1s\n",
        "1d",
        "1us",
        "100000s",
        "1h1m1s1ms1h",
        "\u0661s",
    ],
)
def test_refuse(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=100_000 * 3_600_000 - 1))
def test_what_is_written_is_read(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize("duration", [timedelta(seconds=-1), timedelta(hours=100_000)])
def test_what_cannot_be_written_is_refused(duration: timedelta) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        format_duration(duration)


def test_a_duration_is_a_timedelta() -> None:
    assert Duration.parse("90s") == timedelta(seconds=90)
    assert repr(Duration.parse("90s")) == "Duration(1m30s)"


def test_a_duration_that_cannot_be_written_again_still_shows() -> None:
    assert str(Duration.parse("99999h99999h")) == "199998h"
