"""The file source passes the suite of all sources, however its changes are noticed and written."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
import yaml

from portway.objects.verdict import ObjectKey
from portway.sources.files import FileSource
from tests.sources.suite import *  # noqa: F403 - the suite's tests become this module's
from tests.sources.suite import Manifest


@dataclass
class FolderWorld:
    """A file for each object."""

    folder: Path
    atomic: bool
    poll: timedelta | None

    def source(self) -> FileSource:
        return FileSource([str(self.folder)], state_dir=self.folder / ".state", poll_interval=self.poll)

    async def create(self, manifest: Manifest) -> None:
        path = self._path(ObjectKey(*_identity(manifest)))
        path.parent.mkdir(exist_ok=True)
        if self.atomic:
            draft = path.with_suffix(".tmp")
            draft.write_bytes(msgspec.json.encode(manifest))
            draft.rename(path)
        else:
            path.write_text(yaml.safe_dump(manifest))

    update = create

    async def delete(self, key: ObjectKey) -> None:
        self._path(key).unlink()

    def _path(self, key: ObjectKey) -> Path:
        return self.folder / (key.namespace or "cluster") / f"{key.kind}-{key.name}.{'json' if self.atomic else 'yaml'}"


def _identity(manifest: Manifest) -> tuple[str, str, str]:
    metadata = manifest["metadata"]
    assert isinstance(metadata, dict)
    return str(manifest["kind"]), metadata.get("namespace", ""), metadata["name"]


@pytest.fixture(params=["written in place", "replaced", "polled"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> FolderWorld:
    poll = timedelta(milliseconds=50) if request.param == "polled" else None
    return FolderWorld(tmp_path, request.param == "replaced", poll)
