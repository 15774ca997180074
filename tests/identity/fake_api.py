"""As much of an API server as identity needs: one Secret with resource versions, and reviews of tokens that it made.

`test_api_server.py` asks a real one the same.
"""

import asyncio
import base64
import datetime as dt
from collections.abc import Sequence

import msgspec

from portway.identity.tokens import PATH, Bearer
from portway.kubernetes.errors import ApiError, ApiUnreachable


class FakeApi:
    """`down` makes it unreachable; without `may_create` a Secret must be there."""

    def __init__(self) -> None:
        self.down = False
        self.may_create = True
        self.secret: dict[str, object] | None = None
        self.version = 0
        self.writes = 0
        self.reviews = 0
        self._tokens: dict[str, tuple[Bearer, Sequence[str]]] = {}

    async def get(self, path: str) -> bytes:
        self._answer_at_all()
        if self.secret is None:
            raise ApiError("get", path, 404, "NotFound", "")
        return msgspec.json.encode(self.secret)

    async def create(self, path: str, body: bytes) -> bytes:
        self._answer_at_all()
        if path == PATH:
            await asyncio.sleep(0)
            return self._review(body)
        if not self.may_create:
            raise ApiError("create", path, 403, "Forbidden", "")
        if self.secret is not None:
            raise ApiError("create", path, 409, "AlreadyExists", "")
        return self._store(body)

    async def replace(self, path: str, body: bytes) -> bytes:
        self._answer_at_all()
        sent = msgspec.json.decode(body, type=dict[str, object])
        metadata = sent["metadata"]
        assert isinstance(metadata, dict)
        if metadata["resourceVersion"] != str(self.version):
            raise ApiError("update", path, 409, "Conflict", "")
        return self._store(body)

    def token(self, bearer: Bearer, audiences: Sequence[str] = ("portway",), expires: dt.datetime | None = None) -> str:
        """A token that this server knows."""
        end = expires or dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
        claims = msgspec.json.encode({"aud": list(audiences), "exp": int(end.timestamp()), "n": len(self._tokens)})
        token = f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.c2ln"
        self._tokens[token] = (bearer, audiences)
        return token

    def forget(self, token: str) -> None:
        """As when its pod is deleted."""
        del self._tokens[token]

    def _answer_at_all(self) -> None:
        if self.down:
            raise ApiUnreachable("https://api.test: refused")

    def _store(self, body: bytes) -> bytes:
        self.version += 1
        self.writes += 1
        stored = msgspec.json.decode(body, type=dict[str, object])
        metadata = stored["metadata"]
        assert isinstance(metadata, dict)
        metadata["resourceVersion"] = str(self.version)
        self.secret = stored
        return msgspec.json.encode(stored)

    def _review(self, body: bytes) -> bytes:
        self.reviews += 1
        spec = msgspec.json.decode(body, type=dict[str, object])["spec"]
        assert isinstance(spec, dict)
        token = spec["token"]
        found = self._tokens.get(token)
        status: dict[str, object] = {"authenticated": False, "error": "unknown token"}
        if found is not None:
            bearer, audiences = found
            extra = {
                "authentication.kubernetes.io/pod-name": [bearer.pod],
                "authentication.kubernetes.io/pod-uid": [bearer.pod_uid],
                "authentication.kubernetes.io/node-name": [bearer.node],
            }
            status = {
                "authenticated": True,
                "audiences": [one for one in audiences if one in spec["audiences"]],
                "user": {
                    "username": f"system:serviceaccount:{bearer.namespace}:{bearer.service_account}",
                    "extra": {name: values for name, values in extra.items() if values[0]},
                },
            }
        return msgspec.json.encode({"status": status})
