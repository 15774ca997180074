"""What a ServiceAccount token proves: the API server is asked (TokenReview), with the audience.

A bound token names its pod and ends with it; tokens without one (the old Secrets, `kubectl create token`) are refused,
since nobody could say which proxy asks. Sources: `authentication.k8s.io/v1`, KEP-1205 (bound tokens), KEP-4193 (node
name in them).
"""

import base64
import binascii
import datetime as dt
from collections.abc import Callable, Mapping
from typing import Protocol, final

import msgspec

from portway.identity.contract import AUDIENCE

PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
USER = "system:serviceaccount:"
EXTRA = "authentication.kubernetes.io/"
MAX_TOKEN_BYTES = 16 * 1024
LEEWAY = dt.timedelta(minutes=5)
"""Between our clock and the API server's, whose judgement counts."""


class TokenRefused(Exception):
    """The token does not prove what it should. The message says why, and never holds the token."""


class Bearer(msgspec.Struct, frozen=True, kw_only=True):
    """Who showed a token."""

    namespace: str
    service_account: str
    pod: str
    pod_uid: str = ""
    node: str = ""
    """Where the pod runs; empty: the API server (before 1.30) does not say."""


class Asks(Protocol):
    """What is needed of `portway.kubernetes.ApiClient`."""

    async def create(self, path: str, body: bytes) -> bytes: ...


class _Claims(msgspec.Struct, frozen=True):
    aud: str | list[str] = []
    exp: float = 0


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    extra: dict[str, list[str]] = {}


class _Status(msgspec.Struct, frozen=True):
    authenticated: bool = False
    audiences: list[str] = []
    user: _User = _User()
    error: str = ""


class _Review(msgspec.Struct, frozen=True):
    status: _Status = _Status()


@final
class TokenReviewer:
    """Asks the API server about tokens for us.

    Args:
        client: its user must be allowed to create `tokenreviews` (ClusterRole `system:auth-delegator` has it).
        clock: the time of day.
    """

    def __init__(
        self,
        client: Asks,
        *,
        audience: str = AUDIENCE,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._client = client
        self._audience = audience
        self._clock = clock

    async def review(self, token: str) -> Bearer:
        """Who shows this token.

        Raises:
            TokenRefused: it is forged, expired, for somebody else, or bound to no pod.
            ApiError, ApiUnreachable: the API server cannot be asked.
        """
        self._look(token)
        body = msgspec.json.encode(
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "spec": {"token": token, "audiences": [self._audience]},
            }
        )
        return bearer_of(
            msgspec.json.decode(await self._client.create(PATH, body), type=_Review).status, self._audience
        )

    def _look(self, token: str) -> None:
        """Refuse what the API server would refuse anyway: who floods us shall not flood it through us."""
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenRefused(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
        try:
            payload = token.split(".")[1]
            claims = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_Claims)
        except (IndexError, binascii.Error, ValueError) as error:
            raise TokenRefused("the token is no JSON Web Token") from error
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        if self._audience not in audiences:
            raise TokenRefused(f"the token is for {', '.join(audiences) or 'nobody'}, not for {self._audience}")
        if claims.exp < (self._clock() - LEEWAY).timestamp():
            raise TokenRefused("the token has expired")


def bearer_of(status: _Status, audience: str) -> Bearer:
    """What a TokenReview's status says. Raises TokenRefused."""
    if not status.authenticated:
        raise TokenRefused(f"the API server refuses the token: {status.error or 'no reason given'}")
    # A server that knows no audiences leaves them out, and then the token may be for anybody ("TokenReviewStatus").
    if audience not in status.audiences:
        raise TokenRefused(f"the token is for {', '.join(status.audiences) or 'anybody'}, not for {audience}")
    namespace, _, account = status.user.username.removeprefix(USER).partition(":")
    if not status.user.username.startswith(USER) or not account:
        raise TokenRefused(f"{status.user.username} is no ServiceAccount")
    pod = _extra(status.user.extra, "pod-name")
    if not pod:
        raise TokenRefused(f"the token of {namespace}/{account} is bound to no pod; use a projected volume")
    return Bearer(
        namespace=namespace,
        service_account=account,
        pod=pod,
        pod_uid=_extra(status.user.extra, "pod-uid"),
        node=_extra(status.user.extra, "node-name"),
    )


def _extra(extra: Mapping[str, list[str]], name: str) -> str:
    return next(iter(extra.get(EXTRA + name, ())), "")
