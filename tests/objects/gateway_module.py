"""Finds the Gateway API's Go module, whose files several tests hold us against; it is read where it lies."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

VERSION = "v1.7.0"


def _cache() -> Path:
    if configured := os.environ.get("GOMODCACHE"):
        return Path(configured)
    if go := shutil.which("go"):
        found = subprocess.run([go, "env", "GOMODCACHE"], capture_output=True, text=True, check=False, timeout=30)
        if found.returncode == 0 and found.stdout.strip():
            return Path(found.stdout.strip())
    return Path.home() / "go" / "pkg" / "mod"


MODULE = _cache() / "sigs.k8s.io" / f"gateway-api@{VERSION}"

needs_module = pytest.mark.skipif(
    not MODULE.is_dir(), reason=f"the Go module sigs.k8s.io/gateway-api@{VERSION} is not in the module cache"
)
