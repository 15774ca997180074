"""What a run of the conformance suite came to: its tests, read from the binary's output, and its report."""

import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path

import msgspec
import yaml

PROFILES = ("GATEWAY-HTTP", "GATEWAY-GRPC", "GATEWAY-TLS", "GATEWAY-TCP", "GATEWAY-UDP")
"""All profiles for gateways, by the suite's names."""

FEATURES_WITHOUT_TESTS = frozenset(
    {"ClusterTrustBundle", "GatewayAddressRoutability", "GatewayAddressRoutabilityCluster", "GatewayListenerFilters"}
)
"""Experimental features that no test of the suite's v1.7.0 asks for: not claimed, and no gap in a report."""

_ROOT_TEST = "TestConformance"
_MARK = "\x16"
"""Before each line of the test framework itself, with `-test.v=test2json`: tests may write lines that look alike."""

_FRAMEWORK = re.compile(r"(?:=== (?P<event>RUN|CONT|NAME|PAUSE)|--- (?P<outcome>PASS|FAIL|SKIP):) +(?P<name>\S*)")
_SECONDS = re.compile(r"\((\d+\.\d+)s\)$")
_HOUSEKEEPING = "    apply.go:"
"""Objects made before a test and, after its last word, deleted: they would hide what it failed with."""

_LINES_KEPT = 40  # of the end of a test's log: testify's message, and the last tries of a wait that was in vain


class Outcome(StrEnum):
    """How a test ended."""

    PASS = "PASS"
    FAIL = "FAIL"
    SKIP = "SKIP"


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One test, or one part of a test."""

    name: str
    """Without the root's: `HTTPRouteMatching`, or `HTTPRouteMatching/2_request_to_...` for a part."""

    outcome: Outcome
    seconds: float
    """Of its own work: what a Parallel test waited for its turn is not in it."""

    log: tuple[str, ...]
    """The end of what it logged itself, without its parts and without what was applied and deleted."""

    @property
    def is_part(self) -> bool:
        """Whether it is a part of a test."""
        return "/" in self.name


def read_results(lines: Iterable[str]) -> Iterator[Result]:
    """Tests and parts of tests as they end, from the output of a test binary run with `-test.v=test2json`.

    The root test comes last, with an empty name: set-up, clean-up and the report are its own.
    """
    logs: dict[str, list[str]] = {}
    running = ""
    for line in lines:
        text = line.rstrip("\n")
        found = _FRAMEWORK.match(text.partition(_MARK)[2]) if _MARK in text else None
        if found is None:
            if not text.startswith(_HOUSEKEEPING):
                log = logs.setdefault(running, [])
                log.append(text)
                del log[:-_LINES_KEPT]
        elif found["outcome"] is None:
            running = found["name"]
        else:
            seconds = _SECONDS.search(text)
            yield Result(
                name=found["name"].removeprefix(_ROOT_TEST).removeprefix("/"),
                outcome=Outcome(found["outcome"]),
                seconds=float(seconds[1]) if seconds else 0.0,
                log=tuple(logs.pop(found["name"], ())),
            )


class Statistics(msgspec.Struct, frozen=True, rename="pascal"):
    """Numbers of tests."""

    passed: int = 0
    skipped: int = 0
    failed: int = 0


class Support(msgspec.Struct, frozen=True, rename="camel"):
    """A profile's core or extended tests."""

    result: str
    statistics: Statistics
    skipped_tests: tuple[str, ...] = ()
    failed_tests: tuple[str, ...] = ()
    supported_features: tuple[str, ...] = ()
    unsupported_features: tuple[str, ...] = ()


class Profile(msgspec.Struct, frozen=True):
    """One profile of a report."""

    name: str
    core: Support
    extended: Support | None = None


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """A ConformanceReport, as far as it is judged here."""

    gateway_api_version: str = msgspec.field(name="gatewayAPIVersion")
    gateway_api_channel: str = msgspec.field(name="gatewayAPIChannel")
    profiles: tuple[Profile, ...] = ()
    succeeded_provisional_tests: tuple[str, ...] = ()


def read_report(path: Path) -> Report:
    """Read the file that the suite wrote."""
    return msgspec.convert(yaml.safe_load(path.read_text()), type=Report)


def gaps(report: Report) -> list[str]:
    """What keeps a report from the full mark, a sentence each; empty: every profile, every core and extended test."""
    found = [f"{name}: not in the report" for name in PROFILES if name not in {one.name for one in report.profiles}]
    for profile in report.profiles:
        if profile.extended is None:
            found.append(f"{profile.name}: no extended tests")
        for level, support in (("core", profile.core), ("extended", profile.extended)):
            if support is None:
                continue
            unclaimed = sorted(set(support.unsupported_features) - FEATURES_WITHOUT_TESTS)
            for what, names in (
                ("failed", support.failed_tests),
                ("skipped", support.skipped_tests),
                ("not claimed", unclaimed),
            ):
                if names:
                    found.append(f"{profile.name}, {level}, {what}: {', '.join(names)}")
    return found


def table(results: Iterable[Result]) -> str:
    """Tests with their times, the slowest first."""
    tests = sorted((one for one in results if not one.is_part), key=lambda one: -one.seconds)
    return "\n".join(f"{one.outcome}  {one.seconds:7.2f} s  {one.name or 'everything'}" for one in tests)


def failures(results: Iterable[Result]) -> str:
    """The log's end of each failed test and part of a test. One that failed by its parts only is not told again."""
    failed = [one for one in results if one.outcome is Outcome.FAIL]
    parents = {one.name.rpartition("/")[0] for one in failed if one.name}
    if any(one.name for one in failed):
        parents.add("")
    leaves = [one for one in failed if one.name not in parents or any("Error Trace:" in line for line in one.log)]
    return "\n\n".join(f"FAIL {one.name or 'outside of the tests'}\n" + "\n".join(one.log) for one in leaves)


def summary(report: Report) -> str:
    """Numbers of passed, skipped and failed tests per profile, as a table."""
    rows = [f"{'profile':<14} {'core':>16} {'extended':>16}   (passed, skipped, failed)"]
    for profile in report.profiles:
        cells = [
            f"{one.statistics.passed} {one.statistics.skipped} {one.statistics.failed}" if one else "-"
            for one in (profile.core, profile.extended)
        ]
        rows.append(f"{profile.name:<14} {cells[0]:>16} {cells[1]:>16}")
    return "\n".join(rows)
