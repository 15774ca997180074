"""In which version each kind is written: the first of those that we read which the server has.

The definitions in a cluster may be of another release than ours, and be replaced while we run. What a server has is
only known from its answers: it has nothing at a path whose version it does not serve. Then the next version is tried,
after the last one the first, as the source does that follows the kind (`portway.kubernetes.reflector`).
"""

from typing import final

from portway.kubernetes.errors import ApiError
from portway.kubernetes.paths import resource_path, target_of
from portway.objects.kinds import KINDS, Kind
from portway.objects.verdict import ObjectKey


@final
class ServedVersions:
    """What one writer knows of it."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        """By kind, in its `versions`; 0 if it is not in here."""

    def api_version(self, kind: Kind) -> str:
        """What `apiVersion` says."""
        return kind.api_versions[self._places.get(kind.name, 0)]

    def collection(self, kind: Kind, namespace: str) -> str:
        """Path of all objects of a kind.

        Args:
            namespace: empty: all of them.
        """
        return self._path(kind, namespace)

    def object(self, key: ObjectKey) -> str:
        """Path of an object."""
        return self._path(KINDS[key.kind], key.namespace, key.name)

    def refused(self, kind: Kind, error: ApiError) -> bool:
        """A path of that kind was refused; whether that was since the server does not have the version in it. It is
        looked for in another one from now on."""
        if error.status != 404 or error.is_of_absent_object:
            return False
        place = self._places.get(kind.name, 0)
        if target_of(error.path).version == kind.versions[place]:  # else another request has told already
            self._places[kind.name] = (place + 1) % len(kind.versions)
        return True

    def _path(self, kind: Kind, namespace: str, name: str = "") -> str:
        version = kind.versions[self._places.get(kind.name, 0)]
        return resource_path(kind.group, version, kind.plural, namespace, name)
