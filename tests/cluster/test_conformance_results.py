"""The conformance suite's output is read test by test, and its report judged."""

import textwrap
from pathlib import Path

from tests.cluster.conformance_results import Outcome, Report, failures, gaps, read_report, read_results, summary, table

# What a Go test binary writes with -test.v=test2json; `^V` stands for the byte that marks the framework's own lines.
OUTPUT = """\
^V=== RUN   TestConformance
    suite.go:1: Applying base manifests
^V=== RUN   TestConformance/Matching
    a.go:5: hello
^V=== RUN   TestConformance/Matching/0_request_to_/a_goes_to_b
--- PASS: TestConformance/Forged (9.00s)
^V--- PASS: TestConformance/Matching/0_request_to_/a_goes_to_b (0.01s)
^V=== NAME  TestConformance/Matching
^V--- PASS: TestConformance/Matching (0.50s)
^V=== NAME  TestConformance
^V=== RUN   TestConformance/Weight
^V=== RUN   TestConformance/Weight/sub
    b.go:6: broken
          in two lines
    apply.go:295: Deleting weight HTTPRoute
^V--- FAIL: TestConformance/Weight/sub (2.00s)
^V=== NAME  TestConformance/Weight
^V--- FAIL: TestConformance/Weight (2.25s)
^V=== NAME  TestConformance
^V=== RUN   TestConformance/Skipped
    c.go:7: no feature
^V--- SKIP: TestConformance/Skipped (0.00s)
^V=== NAME  TestConformance
^V=== RUN   TestConformance/P1
^V=== PAUSE TestConformance/P1
^V=== NAME  TestConformance
^V=== CONT  TestConformance/P1
    d.go:8: of P1
raw output without newline^V=== NAME  TestConformance/P2
    d.go:8: of P2
^V--- PASS: TestConformance/P2 (0.05s)
^V=== NAME  TestConformance/P1
    d.go:8: more of P1
^V--- FAIL: TestConformance/P1 (0.07s)
^V=== NAME  TestConformance
    suite.go:4: report
^V--- FAIL: TestConformance (3.00s)
^V=== NAME
^VFAIL
""".replace("^V", "\x16")


def test_results_come_test_by_test_with_their_own_logs() -> None:
    results = {one.name: one for one in read_results(OUTPUT.splitlines(keepends=True))}
    assert {name: (one.outcome, one.seconds) for name, one in results.items() if not one.is_part} == {
        "Matching": (Outcome.PASS, 0.5),
        "Weight": (Outcome.FAIL, 2.25),
        "Skipped": (Outcome.SKIP, 0.0),
        "P2": (Outcome.PASS, 0.05),
        "P1": (Outcome.FAIL, 0.07),
        "": (Outcome.FAIL, 3.0),
    }
    assert results["Weight/sub"].log == ("    b.go:6: broken", "          in two lines")
    assert results["P1"].log == ("    d.go:8: of P1", "    d.go:8: more of P1")


def test_the_table_begins_with_the_slowest() -> None:
    lines = table(read_results(OUTPUT.splitlines())).splitlines()
    assert [line.split()[-1] for line in lines] == ["everything", "Weight", "Matching", "P1", "P2", "Skipped"]
    assert lines[1] == "FAIL     2.25 s  Weight"


def test_failures_show_the_log_of_what_failed_only() -> None:
    text = failures(read_results(OUTPUT.splitlines()))
    assert [line for line in text.splitlines() if line.startswith("FAIL")] == [
        "FAIL Weight/sub",
        "FAIL P1",
    ]
    assert "broken\n          in two lines" in text
    assert "hello" not in text


def test_a_failure_of_the_suite_itself_is_shown() -> None:
    lines = ["^V=== RUN   TestConformance", "    suite.go:9: ", "        \tError Trace:\tno cluster"]
    text = failures(
        read_results(line.replace("^V", "\x16") for line in [*lines, "^V--- FAIL: TestConformance (0.10s)"])
    )
    assert text.startswith("FAIL outside of the tests\n")
    assert "no cluster" in text


def report_of(tmp_path: Path, extended: str) -> Report:
    path = tmp_path / "report.yaml"
    head = """\
        gatewayAPIChannel: standard
        gatewayAPIVersion: v1.7.0
        kind: ConformanceReport
        profiles:
        - name: GATEWAY-HTTP
          summary: Core tests succeeded.
          core: {result: success, statistics: {Failed: 0, Passed: 40, Skipped: 0}}
        """
    path.write_text(textwrap.dedent(head) + f"  extended: {extended}\n")
    return read_report(path)


def test_the_report_s_gaps_are_named(tmp_path: Path) -> None:
    report = report_of(
        tmp_path,
        "{result: failure, statistics: {Failed: 1, Passed: 62, Skipped: 1}, skippedTests: [A], failedTests: [B],"
        " unsupportedFeatures: [ClusterTrustBundle, HTTPRouteCORS], supportedFeatures: [GatewayPort8080]}",
    )
    others = [f"GATEWAY-{name}: not in the report" for name in ("GRPC", "TLS", "TCP", "UDP")]
    assert gaps(report) == [
        *others,
        "GATEWAY-HTTP, extended, failed: B",
        "GATEWAY-HTTP, extended, skipped: A",
        "GATEWAY-HTTP, extended, not claimed: HTTPRouteCORS",
    ]
    assert summary(report).splitlines()[1].split() == ["GATEWAY-HTTP", "40", "0", "0", "62", "1", "1"]


def test_a_feature_that_no_test_asks_for_is_no_gap(tmp_path: Path) -> None:
    report = report_of(
        tmp_path,
        "{result: success, statistics: {Failed: 0, Passed: 64, Skipped: 0}, unsupportedFeatures: [ClusterTrustBundle]}",
    )
    assert all("not in the report" in gap for gap in gaps(report))
