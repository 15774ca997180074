"""Finds the Gateway API's Go module, whose files several tests hold us against; it is read where it lies."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster.binaries import GATEWAY_API, BuildFailed, module_folder

NAME, VERSION, _ = GATEWAY_API


def _cache() -> Path:
    if configured := os.environ.get("GOMODCACHE"):
        return Path(configured)
    if go := shutil.which("go"):
        found = subprocess.run([go, "env", "GOMODCACHE"], capture_output=True, text=True, check=False, timeout=30)
        if found.returncode == 0 and found.stdout.strip():
            return Path(found.stdout.strip())
    return Path.home() / "go" / "pkg" / "mod"


def _find() -> tuple[Path, str]:
    """The module's folder, fetched now if it is not there, and why it is not."""
    kept = _cache() / f"{NAME}@{VERSION}"
    if kept.is_dir():
        return kept, ""
    if shutil.which("go") is None:
        return kept, f"no Go, which would fetch the module {NAME}@{VERSION}"
    try:
        return module_folder(*GATEWAY_API), ""
    except BuildFailed as error:
        return kept, str(error)


MODULE, _REASON = _find()

needs_module = pytest.mark.skipif(bool(_REASON), reason=_REASON)
