"""Which entries of a folder are manifests, which are somebody's leftovers."""

import os.path
from typing import Final

SUFFIXES: Final = (".yaml", ".yml", ".json")
"""As kubectl has them; the suffix must be spelt so."""

STDIN: Final = "-"


def is_manifest_name(name: str) -> bool:
    """Is a file of that name read when its folder is given?

    Left alone: hidden files (also `..data` and its siblings in a mounted ConfigMap) and, because their suffix differs,
    editors' files: `x.yaml~`, `#x.yaml#`, `.x.yaml.swp`, `x.yaml.tmp`, `4913`. A file that is named itself is always
    read.
    """
    return name.endswith(SUFFIXES) and not name.startswith((".", "#"))


def is_folder_name(name: str) -> bool:
    """Is a folder of that name looked into?"""
    return not name.startswith(".")


def is_json_name(path: str) -> bool:
    """Is it read as JSON only?"""
    return path.endswith(".json")


def display_path(path: str) -> str:
    """A path as it stands in messages and in the order of files: as given, without `./` and doubled slashes."""
    return path if path == STDIN else os.path.normpath(path)
