"""The Dockerfile names files that exist, versions that fit, and nothing that is not locked."""

import re
import tomllib

import yaml

from portway import __version__
from tools.make_manifests import DEPLOY

ROOT = DEPLOY.parent
LINES = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()


def test_copied_files_exist_and_reach_the_builder() -> None:
    sources = [
        source for line in LINES if line.startswith("COPY ") and "--from" not in line for source in line.split()[1:-1]
    ]
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sources
    assert all((ROOT / source).exists() for source in sources)
    assert set(sources) == kept


def test_the_wheel_is_built_of_what_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    copied = " ".join(line for line in LINES if line.startswith("COPY "))
    assert all(name in copied for name in (project["readme"], *project["license-files"]))


def test_everything_installed_has_a_hash_in_a_lock() -> None:
    installs = [line for line in LINES if "pip" in line and " install " in line]
    locked = [line for line in installs if "--require-hashes" in line and "--only-binary=:all:" in line]
    assert [line for line in installs if line not in locked] == [line for line in installs if "--no-index" in line]
    assert all(re.search(r"-r \S+\.lock$", line) for line in locked)


def test_build_lock_is_what_developers_build_with() -> None:
    def versions(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.M))

    build, developers = versions("requirements-build.lock"), versions("requirements-dev.lock")
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert all(re.split("[<>=]", one)[0] in build for one in requires)
    assert {name: build[name] for name in build.keys() & developers.keys()} == {
        name: developers[name] for name in build.keys() & developers.keys()
    }


def test_user_and_version_are_those_of_the_manifests() -> None:
    (pod,) = [
        one["spec"]["template"]["spec"]
        for one in yaml.safe_load_all((DEPLOY / "base" / "control-plane.yaml").read_text())
        if one["kind"] == "Deployment"
    ]
    rights = pod["securityContext"]
    assert f"USER {rights['runAsUser']}:{rights['runAsGroup']}" in LINES
    assert f"portway:{__version__}" in (ROOT / "Dockerfile").read_text()
