"""Writes type stubs for the Envoy messages that we import into `typings/`.

`xds-protos` ships none, so to a type checker every message would be `Any` and a misspelt field would pass. The stubs
come from the wheel's own descriptors: the files behind the modules that the source imports, with all they depend on.
"""

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor

ROOT = Path(__file__).parent.parent
TYPINGS = ROOT / "typings"
IMPORTED = re.compile(
    r"^\s*(?:from ((?:envoy|xds|udpa|google\.rpc|validate)[\w.]*) import (\w+_pb2)|import ((?:envoy|xds)[\w.]*_pb2))",
    re.MULTILINE,
)


def imported_modules() -> list[str]:
    """Names of the protobuf modules that any of our files imports, sorted."""
    found = set[str]()
    for folder in ("src", "tests", "bench"):
        for path in (ROOT / folder).rglob("*.py"):
            for package, module, whole in IMPORTED.findall(path.read_text()):
                found.add(whole or f"{package}.{module}")
    return sorted(found)


def with_dependencies(modules: list[str]) -> dict[str, FileDescriptor]:
    """The file descriptors of the modules and of all that they import, dependencies first."""
    files: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        if file.name in files:
            return
        for dependency in file.dependencies:
            add(dependency)
        files[file.name] = file

    for name in modules:
        add(importlib.import_module(name).DESCRIPTOR)
    return files


def main() -> int:
    modules = imported_modules()
    if not modules:
        return 0
    stamp = TYPINGS / "modules.txt"
    if stamp.exists() and stamp.read_text() == "\n".join(modules):
        return 0
    shutil.rmtree(TYPINGS, ignore_errors=True)
    TYPINGS.mkdir()
    files = with_dependencies(modules)
    descriptors = descriptor_pb2.FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(descriptors.file.add())
    described = TYPINGS / "descriptors.pb"
    described.write_bytes(descriptors.SerializeToString())
    own = [name for name in files if not name.startswith("google/protobuf/")]
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc"),
            f"--plugin=protoc-gen-mypy={Path(sys.executable).parent / 'protoc-gen-mypy'}",
            f"--descriptor_set_in={described}",
            f"--mypy_out=quiet,readable_stubs:{TYPINGS}",
            *own,
        ],
        check=True,
    )
    described.unlink()
    for folder in {path.parent for path in TYPINGS.rglob("*.pyi")}:
        while folder != TYPINGS:
            (folder / "__init__.pyi").touch()
            folder = folder.parent
    stamp.write_text("\n".join(modules))
    return 0


if __name__ == "__main__":
    sys.exit(main())
