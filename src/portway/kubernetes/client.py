"""Requests to a Kubernetes API server: paths and bytes in, bytes out, errors that say what to do.

It repeats nothing but a request that was refused for an old token; who wants to try again does so in its own loop, with
`portway.kubernetes.backoff`. Everything that others need of this layer can be imported from here.
"""

import platform
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, final

import msgspec

from portway import __version__
from portway.kubernetes.connection import Connection, FixedCredentials, Identity, Tls, connect, in_cluster
from portway.kubernetes.errors import ApiError, ApiUnreachable, ConnectionProblem, error_of
from portway.kubernetes.paths import resource_path, target_of

if TYPE_CHECKING:
    from portway.kubernetes.transport import Answer, Transport

__all__ = [
    "APPLY_PATCH",
    "JSON_PATCH",
    "MERGE_PATCH",
    "METADATA",
    "ApiClient",
    "ApiError",
    "ApiUnreachable",
    "ClientStatistics",
    "Connection",
    "ConnectionProblem",
    "FixedCredentials",
    "Tls",
    "connect",
    "in_cluster",
    "resource_path",
]

MANAGER: Final = "portway"
"""Field manager of what we write, unless a caller says another."""
OBJECT_BYTES: Final = 16 << 20
"""Largest single object, and line of a watch. The API server takes requests of 3 MiB and etcd objects of 1.5 MiB; what
it adds to them (managedFields) stays far below this."""
ANSWER_TIMEOUT: Final = 60.0
"""Seconds for a whole answer; the API server itself ends requests that are no watch after 60."""
IDLE: Final = 90.0
"""Seconds of silence after which a watch counts as hung: the API server sends a bookmark each minute."""
JSON: Final = "application/json"
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""A single object without anything but its metadata."""
MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"


class ClientStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked of the server."""

    requests: Mapping[tuple[str, str], int]
    """By RBAC verb and resource (`status` and other subresources behind a slash): `("update", "gateways/status")`."""
    throttled: int
    """Answers 429."""
    failed: int
    """Other answers that are errors, and requests without an answer."""
    watches: int
    """Open now."""


class _Preconditions(msgspec.Struct, frozen=True, omit_defaults=True):
    uid: str = ""


class _DeleteOptions(msgspec.Struct, frozen=True, rename="camel"):
    propagation_policy: str
    preconditions: _Preconditions
    kind: str = "DeleteOptions"
    api_version: str = "v1"


_NO_PARAMS: Final[Mapping[str, str]] = {}


@final
class ApiClient:
    """Speaks with one API server. Belongs to one event loop; any number of requests may be under way.

    Every request raises `ApiError` (the server says no) or `ApiUnreachable` (it says nothing).
    """

    def __init__(self, connection: Connection, *, user_agent: str = "") -> None:
        """
        Args:
            user_agent: empty: name and version of Portway.
        """
        self.connection = connection
        self._user_agent = user_agent or f"portway/{__version__} ({platform.system().lower()}/{platform.machine()})"
        self._transport: Transport | None = None
        self._requests: Counter[tuple[str, str]] = Counter()
        self._throttled = self._failed = self._watches = 0

    async def get(
        self,
        path: str,
        params: Mapping[str, str] = _NO_PARAMS,
        *,
        limit_bytes: int = OBJECT_BYTES,
        accept: str = JSON,
    ) -> bytes:
        """Read an object, a collection or another path.

        Args:
            path: as `resource_path` makes it; also `/readyz`, discovery.
            limit_bytes: a longer answer is an `ApiUnreachable`; raise it for collections.
            accept: `METADATA` for no more than that.
        """
        target = target_of(path)
        verb = "list" if target.resource and not target.name else "get"
        return await self._ask(verb, "GET", path, params, limit_bytes=limit_bytes, accept=accept)

    async def create(self, path: str, body: bytes, *, manager: str = MANAGER, dry_run: bool = False) -> bytes:
        """Create an object in a collection; returns it as stored. 409 `AlreadyExists` if its name is taken.

        Args:
            dry_run: only as if; everything is checked, nothing is stored.
        """
        params = {"fieldManager": manager} | ({"dryRun": "All"} if dry_run else {})
        return await self._ask("create", "POST", path, params, body, JSON)

    async def replace(self, path: str, body: bytes, *, manager: str = MANAGER) -> bytes:
        """Replace an object. With `metadata.resourceVersion` in the body: 409 `Conflict` if it has changed since."""
        return await self._ask("update", "PUT", path, {"fieldManager": manager}, body, JSON)

    async def apply(self, path: str, body: bytes, *, manager: str, force: bool = True) -> bytes:
        """Server-side apply: what the body says is ours, the rest stays as it is.

        Args:
            body: JSON with `apiVersion`, `kind` and `metadata.name`.
            force: take fields over from other managers; else that is a 409.
        """
        params = {"fieldManager": manager, "force": "true" if force else "false"}
        return await self._ask("patch", "PATCH", path, params, body, APPLY_PATCH)

    async def patch(self, path: str, body: bytes, *, content_type: str, manager: str = MANAGER) -> bytes:
        """Change an object by `MERGE_PATCH` or `JSON_PATCH`."""
        return await self._ask("patch", "PATCH", path, {"fieldManager": manager}, body, content_type)

    async def delete(self, path: str, *, uid: str = "", propagation: str = "Background") -> None:
        """Delete an object. That it is not there is fine.

        Args:
            uid: delete only the object with this one; another of the same name is a 409 `Conflict`.
            propagation: of what it owns: `Background`, `Foreground` or `Orphan`.
        """
        body = msgspec.json.encode(_DeleteOptions(propagation, _Preconditions(uid)))
        try:
            await self._ask("delete", "DELETE", path, {}, body, JSON)
        except ApiError as error:
            if error.status != 404:
                raise

    async def stream(
        self,
        path: str,
        params: Mapping[str, str],
        *,
        idle: float = IDLE,
        on_open: Callable[[], None] = lambda: None,
    ) -> AsyncGenerator[bytes, None]:
        """Watch: yield line after line, without line breaks, until the server ends it.

        An error inside the stream (`{"type": "ERROR", ...}`) is a line like others.

        Args:
            params: `watch=true` is added.
            idle: seconds without a byte after which `ApiUnreachable` is raised.
            on_open: called when the server has accepted the watch; the first line may be long in coming.
        """
        async with self._send("watch", "GET", path, {**params, "watch": "true"}, silence=idle, total=None) as answer:
            self._watches += 1
            on_open()
            try:
                rest = b""
                async for part in answer.parts():
                    lines = part.split(b"\n")
                    lines[0] = rest + lines[0]
                    rest = lines.pop()
                    for line in lines:
                        if line:
                            yield line
                    if len(rest) > OBJECT_BYTES:
                        raise ApiUnreachable(
                            f"{self.connection.server}: a line of more than {OBJECT_BYTES:,} bytes in a watch of {path}"
                        )
            finally:
                self._watches -= 1

    def statistics(self) -> ClientStatistics:
        return ClientStatistics(
            requests=dict(self._requests), throttled=self._throttled, failed=self._failed, watches=self._watches
        )

    async def close(self) -> None:
        """End all connections; what is under way fails."""
        if self._transport is not None:
            await self._transport.close()
            self._transport = None

    async def _ask(
        self,
        verb: str,
        method: str,
        path: str,
        params: Mapping[str, str],
        body: bytes = b"",
        content_type: str = "",
        limit_bytes: int = OBJECT_BYTES,
        accept: str = JSON,
    ) -> bytes:
        timeouts = {"silence": ANSWER_TIMEOUT, "total": ANSWER_TIMEOUT}
        async with self._send(verb, method, path, params, body, content_type, accept=accept, **timeouts) as answer:
            return await answer.body(limit_bytes)

    @asynccontextmanager
    async def _send(
        self,
        verb: str,
        method: str,
        path: str,
        params: Mapping[str, str],
        body: bytes = b"",
        content_type: str = "",
        *,
        accept: str = JSON,
        silence: float,
        total: float | None,
    ) -> AsyncIterator["Answer"]:
        """A request whose answer is no error."""
        target = target_of(path)
        resource = f"{target.resource}/{target.subresource}" if target.subresource else target.resource or path
        transport = self._started()
        identity = await self._identity()
        is_renewed = False
        while True:
            self._requests[verb, resource] += 1
            try:
                async with transport.request(
                    identity,
                    method,
                    path,
                    params,
                    body=body,
                    content_type=content_type,
                    accept=accept,
                    silence=silence,
                    total=total,
                ) as answer:
                    if answer.status < 300:
                        yield answer
                        return
                    error = error_of(verb, path, answer.status, answer.retry_after, await answer.body(OBJECT_BYTES))
            except ApiUnreachable:
                self._failed += 1
                raise
            self._throttled += error.status == 429
            self._failed += error.status != 429
            if error.status != 401 or is_renewed:
                raise error
            # An expired token: once more with a new one, if there is one.
            self.connection.credentials.refused(identity)
            refused, identity = identity, await self._identity()
            is_renewed = True
            if identity == refused:
                raise error

    async def _identity(self) -> Identity:
        try:
            return await self.connection.credentials.identity()
        except ConnectionProblem as problem:
            self._failed += 1
            raise ApiUnreachable(f"{self.connection.server}: {problem}") from problem

    def _started(self) -> "Transport":
        if self._transport is None:
            # Late: aiohttp takes 0.3 s and 25 MB, and who only names this class does not need it.
            from portway.kubernetes.transport import Transport

            self._transport = Transport(self.connection, self._user_agent)
        return self._transport
