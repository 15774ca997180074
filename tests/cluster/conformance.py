"""Run the official conformance suite of the Gateway API against Portway in a miniature cluster.

    python -m tests.cluster.conformance --channel standard
    python -m tests.cluster.conformance --channel experimental --run-test HTTPRouteMatching --keep

Portway is installed by its own manifests, and the suite's binary runs inside the cluster's network, where it reaches
the Gateways' addresses as any client does. Which features are tested the suite reads from the GatewayClass, as Portway
claims them. A run of all tests writes the report to `docs/conformance/` (docs/conformance.md).

Exit code 0 is the full mark: the suite's own exit code is 0, and no test of any gateway profile was left out.
"""

import argparse
import asyncio
import contextlib
import ipaddress
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

import portway
from tests.cluster.binaries import CACHE, GATEWAY_API, ROOT
from tests.cluster.cluster import MiniCluster
from tests.cluster.conformance_results import (
    PROFILES,
    Outcome,
    Result,
    failures,
    gaps,
    read_report,
    read_results,
    summary,
    table,
)
from tests.cluster.containers import Image
from tests.cluster.network import LOAD_BALANCERS
from tests.cluster.outline import FOLDER_PREFIX, Outline
from tests.cluster.process import log_end
from tests.cluster.programs import conformance_program, echo_program

INSTALL = ROOT / "deploy"
"""The kustomization by which Portway is installed."""

REPORTS = ROOT / "docs" / "conformance"
MODE = "default"

GATEWAY_CLASS = "gateway-conformance"
ACCEPTED_S = 120.0
"""Longest wait for the GatewayClass: Portway's pod starts, elects a leader, writes its status."""

USABLE_ADDRESS = str(ipaddress.ip_network(LOAD_BALANCERS)[10])
"""A Service may ask for it; the cluster's load balancer never gives it to one that does not."""

UNUSABLE_ADDRESS = "192.0.2.1"
"""Of a network for documentation (RFC 5737): no load balancer has it."""

SUITE_LIMIT = "60m"
"""Go's own default of 10 minutes is too short."""

PARALLEL = 4
"""Tests at a time, of the 37 that may: with 8 their proxies keep two cores from everything else."""

IMPLEMENTATION = {
    "organization": "portway",
    "project": "portway",
    "url": "https://portway.dev",
    "version": f"v{portway.__version__}",
    "contact": "https://portway.dev",
}
"""What the report says of us; the suite wants all of it."""

_CLASS = f"""\
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: {GATEWAY_CLASS}}}
spec: {{controllerName: portway.dev/gateway-controller}}
"""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    channel: str = "standard"
    """`standard` or `experimental`: which CRDs are installed."""

    run_test: str = ""
    """One test by name; empty: all."""

    keep: bool = False
    """Leave cluster and objects for a look until Ctrl-C."""

    @property
    def name(self) -> str:
        """Of files of this run."""
        return f"{self.channel}-{GATEWAY_API[1]}-{MODE}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster.conformance",
        description="Run the conformance suite of the Gateway API against Portway in a miniature cluster.",
    )
    parser.add_argument("--channel", choices=("standard", "experimental"), default="standard", help="of the CRDs")
    parser.add_argument("--run-test", metavar="NAME", default="", help="only this test, without a report")
    parser.add_argument("--keep", action="store_true", help="leave the cluster and all objects until Ctrl-C")
    options = msgspec.convert(vars(parser.parse_args(arguments)), type=Options)
    conformance_program()  # now: both may take minutes, in which no cluster need run
    echo_program()
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(run(options))
    return 130


async def run(options: Options) -> int:
    """Start a cluster, install Portway, run the suite, judge the outcome; the exit code."""
    echo = Image(name="gateway-api/conformance/echo-basic", entrypoint=(str(echo_program()),))
    with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX) as folder:
        outline = Outline(folder=Path(folder) / "cluster", channel=options.channel)
        outline = msgspec.structs.replace(outline, images=(*outline.images, echo))
        async with MiniCluster.started(outline) as cluster:
            await install_portway(cluster)
            return await run_in(cluster, options)


async def install_portway(cluster: MiniCluster) -> None:
    """Install Portway as its documentation says, and wait until it has accepted the class and claimed its features,
    which the suite reads only once.

    Raises:
        AssertionError: the manifests were refused, or the class is not accepted in time; with what is known.
    """
    cluster.kubectl("apply", "--server-side", f"--kustomize={INSTALL}")
    await cluster.api.apply(_CLASS)

    path = f"/apis/gateway.networking.k8s.io/v1/gatewayclasses/{GATEWAY_CLASS}"
    found = await cluster.api.get(path, _GatewayClass)

    async def look() -> bool:
        nonlocal found
        found = await cluster.api.get(path, _GatewayClass)
        return found.is_accepted

    try:
        await cluster.wait_for(f"GatewayClass {GATEWAY_CLASS} accepted", look, seconds=ACCEPTED_S)
    except AssertionError as error:
        pods = cluster.kubectl("get", "pods", "--all-namespaces", "--output=wide")
        raise AssertionError(f"{error}\n{found}\n{pods}") from None


async def run_in(cluster: MiniCluster, options: Options) -> int:
    """Run the suite in a cluster where the class is accepted; the exit code."""
    folder = CACHE.parent / "conformance"
    folder.mkdir(parents=True, exist_ok=True)
    report, log = folder / f"{options.name}-report.yaml", folder / f"{options.name}.log"
    report.unlink(missing_ok=True)
    command = cluster.command_inside(str(conformance_program()), *flags(options, report))
    code, results = await run_suite(command, {"KUBECONFIG": str(cluster.inner_kubeconfig)}, log)
    ran = [one for one in results if one.outcome is not Outcome.SKIP]
    say(f"\n{table(ran)}")
    if failed := failures(results):
        say(f"\n{failed}")
    if not any(one.name == "" for one in results):  # a panic, as of the time limit, ends it without a last word
        say(f"\n{log_end(log)}")
    is_perfect = judge(report, options) and code == 0
    say(f"\nThe suite ended with {code}; all that it said: {log}")
    if options.keep:
        say(f"\nkubectl --kubeconfig={cluster.kubeconfig} get gateways -A; Ctrl-C ends the cluster")
        await asyncio.Event().wait()
    return 0 if is_perfect else 1


def flags(options: Options, report: Path) -> list[str]:
    """The suite's flags (docs/conformance.md)."""
    given = {
        "-test.v": "test2json",
        "-test.timeout": SUITE_LIMIT,
        "-test.parallel": str(PARALLEL),
        "--gateway-class": GATEWAY_CLASS,
        "--usable-address": USABLE_ADDRESS,
        "--unusable-address": UNUSABLE_ADDRESS,
    }
    if options.run_test:
        given["--run-test"] = options.run_test
    else:
        given |= {"--conformance-profiles": ",".join(PROFILES), "--report-output": str(report), "--mode": MODE}
        given |= {f"--{name}": value for name, value in IMPLEMENTATION.items()}
    if options.keep:
        given |= {"--cleanup-base-resources": "false", "--cleanup-test-resources": "false"}
    return [f"{name}={value}" for name, value in given.items()]


async def run_suite(command: Sequence[str], environment: dict[str, str], log: Path) -> tuple[int, list[Result]]:
    """Run the binary, saying which test ended as it ends; its exit code and results. All its output goes to `log`."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=2**24,  # bytes of a line: a failure prints whole answers
    )
    assert process.stdout is not None
    output: list[str] = []
    try:
        with log.open("w") as file:
            async for line in process.stdout:
                text = line.decode(errors="replace")
                file.write(text)
                output.append(text)
                for result in read_results([text]):
                    if result.name and not result.is_part and result.outcome is not Outcome.SKIP:
                        say(f"{result.outcome}  {result.seconds:7.2f} s  {result.name}")
        return await process.wait(), list(read_results(output))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def judge(report: Path, options: Options) -> bool:
    """Say what the report says and put it in its place; whether it is the full mark. One test has no report."""
    if options.run_test:
        return True
    if not report.exists():
        say("\nThe suite wrote no report")
        return False
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / report.name).write_text(report.read_text())
    read = read_report(report)
    missing = gaps(read)
    say(f"\n{summary(read)}")
    say("\n".join(missing) or f"\nEvery core and extended test of {len(PROFILES)} profiles passed")
    return not missing


class _Condition(msgspec.Struct, frozen=True, rename="camel"):
    type: str
    status: str
    message: str = ""
    observed_generation: int = 0


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    conditions: tuple[_Condition, ...] = ()
    supported_features: tuple[msgspec.Raw, ...] = ()


class _Metadata(msgspec.Struct, frozen=True):
    generation: int


class _GatewayClass(msgspec.Struct, frozen=True):
    metadata: _Metadata
    status: _Status = _Status()

    @property
    def is_accepted(self) -> bool:
        """Whether Portway has accepted what it is now, and says what it can."""
        accepted = any(
            one.type == "Accepted" and one.status == "True" and one.observed_generation == self.metadata.generation
            for one in self.status.conditions
        )
        return accepted and bool(self.status.supported_features)


def say(text: str) -> None:
    """To whoever waits at the terminal."""
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
