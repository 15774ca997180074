"""What is shown works as it is shown: every example is served, every command of README and examples runs as written.

Ports differ, so that tests can run side by side: each number that an example uses is replaced by a free one.
"""

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.kit.ports import Ports
from tests.kit.portway import Portway

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
README = (ROOT / "README.md").read_text()
ON_A_MACHINE = README.split("## On a machine")[1].split("## In a cluster")[0]
"""What it says of clusters is tried in one: `tests/cluster/test_readme.py`."""
FOLDERS = sorted(path.name for path in EXAMPLES.iterdir() if any(path.glob("*.yaml")))
BACKENDS = {"cart": "9101", "pay": "9102", "cart-next": "9103"}
FIXED = ("8080", "8443", "8081", "8082", "8444", "9902", *BACKENDS.values())
"""All ports that examples and commands name."""
NEEDS_OPENSSL = pytest.mark.skipif(shutil.which("openssl") is None, reason="make-certificate.sh needs openssl")
NEEDS_CURL = pytest.mark.skipif(shutil.which("curl") is None, reason="the commands are curl's")


class Shown:
    """A running example, and the ports in place of those that are written."""

    def __init__(self, portway: Portway, ports: Mapping[str, str]) -> None:
        self.portway = portway
        self.ports = ports

    def translate(self, text: str) -> str:
        return re.sub("|".join(self.ports), lambda found: self.ports[found[0]], text)

    async def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a user in a clone would."""
        words = shlex.split(self.translate(command), comments=True)
        words[0] = str(Path(sys.executable).with_name("portway")) if words[0].endswith("portway") else words[0]
        if words[0] == "curl":
            words[1:1] = ["--silent", "--show-error", "--fail", "--max-time", "20"]
        return await asyncio.to_thread(
            lambda: subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
        )


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PORTWAY_")}


async def make_certificate(folder: Path) -> None:
    script = str(EXAMPLES / "tls/make-certificate.sh")
    process = await asyncio.create_subprocess_exec(script, str(folder / "secret.yaml"))
    assert await process.wait() == 0


@asynccontextmanager
async def shown(tmp_path: Path, example: str) -> AsyncIterator[Shown]:
    """An example with its backends, served."""
    with Ports() as ports:
        running = Portway(tmp_path, ports)
        chosen = {number: str(ports.take()) for number in FIXED}
        chosen |= {"8080": str(running.http_port), "8443": str(running.https_port), "9902": str(running.admin_port)}
        example_shown = Shown(running, chosen)
        for path in sorted((EXAMPLES / example).glob("*.yaml")):
            running.write(path.name, example_shown.translate(path.read_text()))
        if example == "tls":
            await make_certificate(running.files)
        demo = await asyncio.create_subprocess_exec(
            *(sys.executable, str(EXAMPLES / "backends.py")),
            *(f"{name}={chosen[port]}" for name, port in BACKENDS.items()),
        )
        try:
            await running.start()
            yield example_shown
        finally:
            await running.close()
            demo.terminate()
            await demo.wait()


def commands(text: str) -> list[str]:
    """The commands of a text that ask a running quickstart, without their explanations."""
    lines = (line.strip().removeprefix("$ ") for line in text.splitlines())
    wanted = re.compile(r"(curl |\.venv/bin/portway )")
    return [re.split(r"\s{3,}", line)[0] for line in lines if wanted.match(line)]


async def backend(example: Shown, command: str) -> Mapping[str, object]:
    """Who answered, and what it was sent. Asked again for a moment: health checks and backends may be a step behind."""
    said = ""
    for _ in range(50):
        done = await example.run(command)
        if done.returncode == 0:
            found: dict[str, object] = json.loads(done.stdout)
            return found
        said = done.stderr
        await asyncio.sleep(0.1)
    raise AssertionError(f"{command}: {said}\n{example.portway.log_end()}")


@pytest.mark.parametrize(
    "example", [pytest.param(name, marks=NEEDS_OPENSSL if name in ("tls", "cluster") else ()) for name in FOLDERS]
)
async def test_nothing_is_to_be_said_about_an_example(tmp_path: Path, example: str) -> None:
    for path in (EXAMPLES / example).glob("*.yaml"):
        shutil.copy(path, tmp_path)
    options = []
    if example in ("tls", "cluster"):
        await make_certificate(tmp_path)
    if example == "cluster":
        shutil.copy(ROOT / "deploy/classes/classes.yaml", tmp_path)
        # There Gateway and Ingress have addresses of their own; files alone are taken for those of one machine.
        options = ["--http-port", "8080"]
    done = await asyncio.to_thread(
        lambda: subprocess.run(
            [sys.executable, "-m", "portway", "check", "-f", str(tmp_path), "--strict", *options],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    )
    assert done.returncode == 0, done.stdout


@NEEDS_CURL
async def test_every_command_of_the_quickstart(tmp_path: Path) -> None:
    printed = commands((EXAMPLES / "run_quickstart.py").read_text())
    assert [one for one in commands(ON_A_MACHINE) if one.startswith("curl")] == [
        one for one in printed if one.startswith("curl") and "metrics" not in one
    ], "README and `make run` show the same"
    async with shown(tmp_path, "quickstart") as example:
        for command in dict.fromkeys([*printed, *commands(ON_A_MACHINE)]):
            if command.startswith("curl") and "metrics" not in command:
                await backend(example, command)
                continue
            if "explain" in command or "status" in command:
                command += " --admin-address 127.0.0.1:9902"
            done = await example.run(command)
            assert done.returncode == 0, (command, done.stderr)
        assert (await backend(example, "curl http://shop.localhost:8080/pay"))["backend"] == "pay"
        assert (await backend(example, "curl http://old.localhost:8080/shop/items"))["path"] == "/items"
        paid = await backend(example, "curl -X POST http://api.localhost:8081/pay")
        assert paid["headers"]["x-paid-by"] == "portway"  # type: ignore[index]  # the echo's JSON
        # Edit a file and ask again; break one and look at the status.
        text = (example.portway.files / "ingress.yaml").read_text()
        example.portway.write("ingress.yaml", text.replace("path: /pay", "path: /paying"))

        async def edited() -> bool:
            return (await backend(example, "curl http://shop.localhost:8080/pay"))["backend"] == "cart"

        await example.portway.until(edited, "live")
        example.portway.write("ingress.yaml", "kind: Ingress\n  metadata: {broken\n")

        async def named() -> bool:
            said = await example.run(".venv/bin/portway status --admin-address 127.0.0.1:9902")
            return "ingress.yaml:2: error: " in said.stdout

        await example.portway.until(named, "named")
        assert (await backend(example, "curl http://shop.localhost:8080/"))["backend"] == "cart"


async def test_the_explanation_in_the_readme_is_what_is_said() -> None:
    shown_text = re.search(r"    \$ \.venv/bin/portway (explain \S+ \S+)\n((?:    .*\n)+)", README)
    assert shown_text is not None
    options = "-f examples/quickstart --bind-address 127.0.0.1 --http-port 8080 --https-port 8443"
    done = await asyncio.to_thread(
        lambda: subprocess.run(
            [sys.executable, "-m", "portway", *f"{shown_text[1]} {options}".split()],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
    )
    assert done.stdout == re.sub("^    ", "", shown_text[2], flags=re.MULTILINE)


@NEEDS_CURL
async def test_canary(tmp_path: Path) -> None:
    async with shown(tmp_path, "canary") as example:
        chosen = await backend(example, "curl -H 'x-canary: always' http://shop.localhost:8080/")
        assert chosen["backend"] == "cart-next"
        stayed = await backend(example, "curl -H 'x-canary: never' http://shop.localhost:8080/")
        assert stayed["backend"] == "cart"


@NEEDS_CURL
@NEEDS_OPENSSL
async def test_tls(tmp_path: Path) -> None:
    async with shown(tmp_path, "tls") as example:
        assert (await backend(example, "curl -k https://shop.localhost:8443/"))["backend"] == "cart"
        plain = await example.run("curl -o /dev/null -w '%{http_code} %{redirect_url}' http://shop.localhost:8080/x")
        assert plain.stdout == example.translate("308 https://shop.localhost:8443/x")


@NEEDS_CURL
async def test_backends(tmp_path: Path) -> None:
    async with shown(tmp_path, "backends") as example:
        assert (await backend(example, "curl http://legacy.localhost:8080/"))["backend"] in ("cart", "pay")
        assert (await backend(example, "curl http://legacy.localhost:8080/name/x"))["backend"] == "cart-next"


@NEEDS_CURL
async def test_streams(tmp_path: Path) -> None:
    async with shown(tmp_path, "streams") as example:
        assert (await backend(example, "curl http://127.0.0.1:8082/"))["backend"] == "cart"


async def test_every_metric_of_the_control_plane_is_documented(tmp_path: Path) -> None:
    page = (ROOT / "docs/operations.md").read_text()
    async with shown(tmp_path, "quickstart") as example:
        text = (await example.portway.admin("/metrics")).body.decode()
    names = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    assert not {name for name in names if name.startswith("portway_") and name not in page}
    # The other way round, for Envoy's as well; those of `portway proxy` are on its own page of metrics, and
    # on a machine there are no fleets to be made.
    mentioned = re.findall(r"`((?:portway(?!_proxy_|_fleets)|envoy)_[a-z0-9_]+)[`{]", page)
    assert not {name for name in mentioned if name not in names}
