"""The harness's own client of the API server: small, without retries, and without anything of Portway's.

Tests judge Portway with it, so it shares no code with `portway.kubernetes`. Bodies are bytes; `decode` and `Follower`
turn them into the structs of `tests.cluster.objects`.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar, final

import aiohttp
import msgspec
import yaml

from portway.kubernetes.transport import Sockets
from tests.kit.certificates import KeyPair, client_context

MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
T = TypeVar("T", bound=msgspec.Struct)


class Refused(AssertionError):
    """The API server answered with an error."""

    def __init__(self, verb: str, path: str, status: int, body: str) -> None:
        super().__init__(f"{verb} {path}: {status}: {body[:2000]}")
        self.status = status
        self.body = body


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Where an API server is and who asks: with a bearer token, or with a client certificate."""

    server: str
    """`https://address:port`."""

    authority: str
    """PEM of who signed the server's certificate."""

    token: str = ""
    certificate: KeyPair | None = None

    def kubeconfig(self, user: str = "user", namespace: str = "default") -> bytes:
        """The same as a kubeconfig file with one context, `miniature`. (JSON is YAML.)"""
        who: dict[str, str | bytes] = {"token": self.token} if self.token else {}
        if self.certificate is not None:
            # msgspec writes bytes as base64, which is what the ...-data fields want.
            who |= {
                "client-certificate-data": self.certificate.certificate.encode(),
                "client-key-data": self.certificate.key.encode(),
            }
        cluster = {"server": self.server, "certificate-authority-data": self.authority.encode()}
        return msgspec.json.format(
            msgspec.json.encode(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "miniature", "cluster": cluster}],
                    "users": [{"name": user, "user": who}],
                    "contexts": [
                        {
                            "name": "miniature",
                            "context": {"cluster": "miniature", "user": user, "namespace": namespace},
                        }
                    ],
                    "current-context": "miniature",
                }
            )
        )


class _Metadata(msgspec.Struct, frozen=True):
    name: str = ""
    namespace: str = ""


class _Head(msgspec.Struct, frozen=True, rename="camel"):
    """What every manifest has."""

    api_version: str
    kind: str
    metadata: _Metadata = _Metadata()


class _Resource(msgspec.Struct, frozen=True):
    name: str
    kind: str
    namespaced: bool


class _Resources(msgspec.Struct, frozen=True):
    resources: tuple[_Resource, ...] = ()


@final
class Api:
    """One user's connection to one API server. An async context manager; bound to the event loop that entered it."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._context: ssl.SSLContext = client_context(access.authority, pair=access.certificate)
        self._session: aiohttp.ClientSession | None = None
        self._sockets = Sockets()
        self._resources: dict[tuple[str, str], _Resource] = {}

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self.access.token}"} if self.access.token else {}
        # Watches hold connections; aiohttp's limit of 100 would let the last ones wait for ever.
        connector = aiohttp.TCPConnector(ssl=self._context, limit=0, socket_factory=self._sockets.make)
        self._session = aiohttp.ClientSession(
            self.access.server, headers=headers, connector=connector, timeout=aiohttp.ClientTimeout(total=None)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()
        await self._sockets.cut()

    async def request(
        self,
        verb: str,
        path: str,
        body: bytes | None = None,
        *,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        """One request; the answer's body.

        Raises:
            Refused: the status is not 2xx.
            aiohttp.ClientError, TimeoutError: no answer within 30 s.
        """
        assert self._session is not None, "used outside of `async with`"
        headers = {"Content-Type": content_type} if body is not None else {}
        async with (
            asyncio.timeout(30),
            self._session.request(verb, path, data=body, params=params, headers=headers) as answer,
        ):
            content = await answer.read()
            if answer.status >= 300:
                raise Refused(verb, path, answer.status, content.decode(errors="replace"))
            return content

    async def get(self, path: str, type_: type[T]) -> T:
        """One object, or a list, decoded."""
        return msgspec.json.decode(await self.request("GET", path), type=type_)

    async def find(self, path: str, type_: type[T]) -> T | None:
        """One object decoded; `None` if there is none."""
        try:
            return await self.get(path, type_)
        except Refused as error:
            if error.status == 404:
                return None
            raise

    async def patch(self, path: str, change: object) -> None:
        """A JSON merge patch."""
        await self.request("PATCH", path, msgspec.json.encode(change), content_type=MERGE)

    async def delete(self, path: str, *, uid: str = "", grace_s: int | None = None) -> None:
        """Delete an object in the background; that it is gone already, or is another one by now, is fine."""
        options: dict[str, object] = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        try:
            await self.request("DELETE", path, msgspec.json.encode(options))
        except Refused as error:
            if error.status not in (404, 409):
                raise

    async def stream(self, path: str, params: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Lines of an endless answer, a watch or a followed log, until the server ends it.

        Raises:
            Refused, aiohttp.ClientError: as `request`.
        """
        assert self._session is not None, "used outside of `async with`"
        async with self._session.get(path, params=params) as answer:
            if answer.status >= 300:
                raise Refused("GET", path, answer.status, (await answer.read()).decode(errors="replace"))
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield line

    async def apply(self, manifests: str, *, namespace: str = "default") -> None:
        """Apply all documents of a YAML text server-side, one after the other.

        Args:
            manifests: any kinds that the API server knows.
            namespace: of namespaced objects that name none.

        Raises:
            Refused: the server refused one; the ones before it are applied.
        """
        for document in yaml.load_all(manifests, Loader=yaml.CSafeLoader):
            if document is None:
                continue
            body = msgspec.json.encode(document)
            path = await self.path_of(body, namespace)
            params = {"fieldManager": "test", "force": "true"}
            await self.request("PATCH", path, body, params=params, content_type=APPLY)

    async def delete_manifests(self, manifests: str, *, namespace: str = "default") -> None:
        """Delete all objects that a YAML text names; that one is missing is fine."""
        for document in yaml.load_all(manifests, Loader=yaml.CSafeLoader):
            if document is not None:
                await self.delete(await self.path_of(msgspec.json.encode(document), namespace))

    async def path_of(self, body: bytes, namespace: str = "default") -> str:
        """The path of an object, from its own `apiVersion`, `kind` and metadata."""
        head = msgspec.json.decode(body, type=_Head)
        resource = await self._resource(head.api_version, head.kind)
        where = f"/namespaces/{head.metadata.namespace or namespace}" if resource.namespaced else ""
        return f"{_group_path(head.api_version)}{where}/{resource.name}/{head.metadata.name}"

    async def _resource(self, api_version: str, kind: str) -> _Resource:
        if (api_version, kind) not in self._resources:
            found = await self.get(_group_path(api_version), _Resources)
            for resource in found.resources:
                if "/" not in resource.name:
                    self._resources[api_version, resource.kind] = resource
        if (api_version, kind) not in self._resources:
            raise LookupError(f"the API server serves no {kind} of {api_version}")
        return self._resources[api_version, kind]


def _group_path(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


class _ListMetadata(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""


class _List(msgspec.Struct, frozen=True):
    metadata: _ListMetadata
    items: tuple[msgspec.Raw, ...] = ()


class _Event(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class _Versioned(msgspec.Struct, frozen=True):
    metadata: _ListMetadata


class Identity(Protocol):
    """The part of metadata that tells one object from another of the same name."""

    @property
    def uid(self) -> str: ...


class Identified(Protocol):
    """An object as `follow` yields it."""

    @property
    def metadata(self) -> Identity: ...


U = TypeVar("U", bound=Identified)


class Change(msgspec.Struct, Generic[U], frozen=True):
    """One object as it is now; `gone`: it was deleted, and this is its last state."""

    object: U
    gone: bool = False


async def follow(
    api: Api, path: str, type_: type[U], params: Mapping[str, str] | None = None
) -> AsyncIterator[Change[U] | None]:
    """All objects of a collection, then `None`, then each change, for ever: list and watch.

    After an outage the list comes again, what is gone meanwhile with it, and then `None` again.
    """
    decoder = msgspec.json.Decoder(type_)
    base = dict(params or {})
    known: dict[str, U] = {}
    while True:
        with contextlib.suppress(aiohttp.ClientError, OSError, Refused, TimeoutError):
            listed = msgspec.json.decode(await api.request("GET", path, params=base), type=_List)
            objects = {found.metadata.uid: found for found in map(decoder.decode, listed.items)}
            for uid in known.keys() - objects.keys():
                yield Change(known[uid], gone=True)
            known = objects
            for found in objects.values():
                yield Change(found)
            yield None
            version = listed.metadata.resource_version
            while True:
                watch = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
                async for line in api.stream(path, base | watch):
                    event = msgspec.json.decode(line, type=_Event)
                    if event.type == "ERROR":
                        raise Refused("WATCH", path, 410, bytes(event.object).decode())
                    version = msgspec.json.decode(event.object, type=_Versioned).metadata.resource_version
                    if event.type == "BOOKMARK":
                        continue
                    found = decoder.decode(event.object)
                    if event.type == "DELETED":
                        known.pop(found.metadata.uid, None)
                        yield Change(found, gone=True)
                    else:
                        known[found.metadata.uid] = found
                        yield Change(found)
        await asyncio.sleep(0.2)


def documents(paths: Iterable[Path]) -> str:
    """Several YAML files as one text."""
    return "\n---\n".join(path.read_text() for path in paths)
