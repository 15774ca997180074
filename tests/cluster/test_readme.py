"""What the README shows works as it is written: install, the example, its commands; scale, delete pods; remove it all.

The image cannot be built here; each with `portway` in its name is this checkout.
"""

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import binaries
from tests.cluster.cluster import MiniCluster
from tests.cluster.portway_in import CONTROL_PLANE, SYSTEM
from tests.cluster.test_deploy import fresh
from tests.kit.load import LoadProcess, LoadSpec

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("curl") is None, reason="the commands are curl's"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="make-certificate.sh needs openssl"),
]

SECTION = re.search(r"^## In a cluster\n(.*?)^## ", (binaries.ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
RATE = 50.0


def commands() -> list[str]:
    """Of the section about clusters, without what needs a registry."""
    assert SECTION is not None
    text = re.sub(r"^```.*?^```", "", SECTION[1], flags=re.DOTALL | re.MULTILINE)
    lines = re.findall(r"^    (\S.*)$", text, re.MULTILINE)
    return [line for line in lines if not line.startswith("docker ")]


class Shell:
    """A user's, in a clone."""

    def __init__(self, cluster: MiniCluster, folder: Path) -> None:
        self._folder = folder
        for name in ("deploy", "examples"):
            (folder / name).symlink_to(binaries.ROOT / name)
        programs = (Path(sys.executable).parent, binaries.build(binaries.kube()), os.environ["PATH"])
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PORTWAY_")},
            "KUBECONFIG": str(cluster.inner_kubeconfig),
            "PATH": ":".join(map(str, programs)),
        }

    async def run(self, *lines: str) -> str:
        """What they print, together; every line must succeed."""
        return await asyncio.to_thread(self._run, "set -eo pipefail\n" + "\n".join(lines))

    def _run(self, script: str) -> str:
        done = subprocess.run(
            ["bash", "-xc", script],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout


async def test_as_the_readme_says(tmp_path: Path) -> None:
    (tmp_path / "clone").mkdir()
    async with fresh(tmp_path) as cluster:
        shell = Shell(cluster, tmp_path / "clone")
        said = await shell.run(*commands())
        assert "/cart answered by cart-" in said
        assert "/ answered by cart-" in said
        assert "Gateway shop/public  programmed" in said
        assert "forwarded to Service shop/cart port 80" in said

        address = await cluster.load_balancer("shop", "portway-public")
        load = LoadProcess(LoadSpec(url="http://api.localhost/cart", address=address, rate=RATE, connections=4))
        async with load:
            for replicas in (4, 2):
                await shell.run(
                    f"kubectl -n shop scale deployment/cart --replicas={replicas}",
                    "kubectl -n shop rollout status deployment/cart",
                )
            await shell.run(
                "kubectl -n shop delete pod -l app=cart --wait=false",
                "sleep 1",
                "kubectl -n shop rollout status deployment/cart",
                "kubectl -n portway-system rollout restart deployment/portway",
                "kubectl -n portway-system rollout status deployment/portway",
            )
            await asyncio.sleep(8)  # until those that were told to end have ended
        report = load.report()
        wrong = [one for one in report.samples if one.failure is not None or one.status != 200]
        assert not wrong, (report.summary(), wrong[:10])

        # As docs/installing.md says.
        await shell.run("kubectl delete gateways --all --all-namespaces", "kubectl delete --wait=false -k deploy/")

        async def nothing() -> bool:
            with contextlib.suppress(AssertionError):
                return not await cluster.pods(SYSTEM, CONTROL_PLANE)
            return False

        await cluster.wait_for("the control plane gone", nothing, seconds=90)
