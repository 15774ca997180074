"""The Go programs of the conformance runs: the backends' program and the suite itself."""

from pathlib import Path

from tests.cluster.binaries import GoModule, Program, build

_HERE = Path(__file__).parent

ECHO = GoModule(folder=_HERE / "echo", programs=(Program(name="echo", package="."),))

CONFORMANCE = GoModule(folder=_HERE / "conformance", programs=(Program(name="conformance", package=".", is_test=True),))


def echo_program() -> Path:
    """The program behind the image `gateway-api/conformance/echo-basic`, built now if nobody has built it yet."""
    return build(ECHO) / "echo"


def conformance_program() -> Path:
    """The suite as a test binary, built now if nobody has built it yet. Blocks, for minutes when cold."""
    return build(CONFORMANCE) / "conformance"
