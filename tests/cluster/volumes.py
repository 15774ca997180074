"""Volumes of pods: Secrets, ConfigMaps, the downward API, ServiceAccount tokens, empty folders.

Files of Secrets and the like are swapped as the kubelet swaps them: `..data` is a link to a folder with the files of
one moment, and every file is a link into it, so a reader of several files never sees a mixture.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import final

import msgspec

from tests.cluster.api import Api
from tests.cluster.objects import (
    ConfigMap,
    ConfigMapSource,
    DownwardSource,
    KeyToPath,
    Pod,
    ProjectedPart,
    Secret,
    SecretSource,
    TokenRequest,
    TokenSource,
    Volume,
    field_of,
)

Files = dict[str, bytes]


class SourceMissing(Exception):
    """A Secret or ConfigMap, or a key of it, does not exist yet; the message says which."""


@final
class Sources:
    """The Secrets and ConfigMaps of the cluster, as last seen, by `namespace/name`."""

    def __init__(self) -> None:
        self.secrets: dict[str, Secret] = {}
        self.config_maps: dict[str, ConfigMap] = {}

    def secret(self, namespace: str, name: str, *, optional: bool = False) -> Mapping[str, bytes]:
        """The keys of a Secret.

        Raises:
            SourceMissing: it does not exist and is not optional.
        """
        found = self.secrets.get(f"{namespace}/{name}")
        return found.data if found else _missing("Secret", namespace, name, optional=optional)

    def config_map(self, namespace: str, name: str, *, optional: bool = False) -> Mapping[str, bytes]:
        """The keys of a ConfigMap; raises as `secret`."""
        found = self.config_maps.get(f"{namespace}/{name}")
        return found.files if found else _missing("ConfigMap", namespace, name, optional=optional)


@final
class Volumes:
    """The volumes of one pod, in a folder of its own. `update` makes them, and later brings them up to date."""

    def __init__(self, folder: Path, pod: Pod, sources: Sources, api: Api) -> None:
        self._folder = folder
        self._pod = pod
        self._sources = sources
        self._api = api
        self._written: dict[str, Files] = {}
        self._tokens: dict[TokenSource, tuple[bytes, float]] = {}
        self.address = ""
        """Of the pod, for the downward API; set before the first `update`."""

        self.node_address = ""

    def path(self, volume: str) -> str:
        """Where a volume's files are."""
        for one in self._pod.spec.volumes:
            if one.name == volume and one.host_path is not None:
                return one.host_path.path
        return str(self._folder / volume)

    async def update(self, now: float) -> float:
        """Write what is new.

        Args:
            now: seconds since 1970.

        Returns:
            When a token wants to be renewed; infinity without one.

        Raises:
            SourceMissing: the pod has to wait.
        """
        for volume in self._pod.spec.volumes:
            files = await self._files_of(volume, now)
            if files is None:
                folder = self._folder / volume.name
                folder.mkdir(parents=True, exist_ok=True)
                folder.chmod(0o777)
            elif self._written.get(volume.name) != files:
                _write(self._folder / volume.name, files)
                self._written[volume.name] = files
        return min((renewal for _, renewal in self._tokens.values()), default=float("inf"))

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _files_of(self, volume: Volume, now: float) -> Files | None:
        """`None`: a folder that belongs to the pod."""
        if volume.secret is not None:
            return self._secret(volume.secret)
        if volume.config_map is not None:
            return self._config_map(volume.config_map)
        if volume.downward_api is not None:
            return self._downward(volume.downward_api)
        if volume.projected is not None:
            files: Files = {}
            for part in volume.projected.sources:
                files |= await self._part(part, now)
            return files
        return None

    async def _part(self, part: ProjectedPart, now: float) -> Files:
        if part.secret is not None:
            return self._secret(part.secret)
        if part.config_map is not None:
            return self._config_map(part.config_map)
        if part.downward_api is not None:
            return self._downward(part.downward_api)
        if part.service_account_token is not None:
            return {part.service_account_token.path: await self._token(part.service_account_token, now)}
        return {}

    def _secret(self, source: SecretSource) -> Files:
        name = source.secret_name or source.name
        keys = self._sources.secret(self._pod.metadata.namespace, name, optional=source.optional)
        return _select(f"Secret {name}", keys, source.items, optional=source.optional)

    def _config_map(self, source: ConfigMapSource) -> Files:
        keys = self._sources.config_map(self._pod.metadata.namespace, source.name, optional=source.optional)
        return _select(f"ConfigMap {source.name}", keys, source.items, optional=source.optional)

    def _downward(self, source: DownwardSource) -> Files:
        return {
            item.path: field_of(
                self._pod, item.field_ref.field_path, node_address=self.node_address, pod_address=self.address
            ).encode()
            for item in source.items
            if item.field_ref is not None
        }

    async def _token(self, source: TokenSource, now: float) -> bytes:
        token, renewal = self._tokens.get(source, (b"", 0.0))
        if now < renewal:
            return token
        metadata = self._pod.metadata
        bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata.name, "uid": metadata.uid}
        wanted: dict[str, object] = {"expirationSeconds": source.expiration_seconds, "boundObjectRef": bound}
        if source.audience:
            wanted["audiences"] = [source.audience]
        account = self._pod.spec.service_account_name
        path = f"/api/v1/namespaces/{metadata.namespace}/serviceaccounts/{account}/token"
        answer = await self._api.request("POST", path, msgspec.json.encode({"spec": wanted}))
        status = msgspec.json.decode(answer, type=TokenRequest).status
        end = datetime.fromisoformat(status.expiration_timestamp.replace("Z", "+00:00")).timestamp()
        # Renewed at 80 % of its life, as the kubelet does.
        self._tokens[source] = (status.token.encode(), now + 0.8 * (end - now))
        return status.token.encode()


def _missing(kind: str, namespace: str, name: str, *, optional: bool) -> Mapping[str, bytes]:
    if optional:
        return {}
    raise SourceMissing(f"{kind} {namespace}/{name} does not exist")


def _select(what: str, keys: Mapping[str, bytes], items: tuple[KeyToPath, ...], *, optional: bool) -> Files:
    if not items:
        return dict(keys)
    for item in items:
        if item.key not in keys and not optional:
            raise SourceMissing(f"{what} has no key {item.key}")
    return {item.path: keys[item.key] for item in items if item.key in keys}


def _write(folder: Path, files: Files) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix="..", dir=folder))
    fresh.chmod(0o755)
    for name, content in files.items():
        path = fresh / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o644)
    current = folder / "..data"
    old = current.readlink() if current.is_symlink() else None
    link = folder / "..data_tmp"
    link.symlink_to(fresh.name)
    link.replace(current)
    first_parts = {Path(name).parts[0] for name in files}
    for part in first_parts:
        if not (folder / part).is_symlink():
            (folder / part).symlink_to(Path("..data") / part)
    for entry in os.listdir(folder):  # noqa: PTH208
        if not entry.startswith("..") and entry not in first_parts:
            (folder / entry).unlink()
    if old is not None:
        shutil.rmtree(folder / old)
