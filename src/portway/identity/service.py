"""The issuer's door: one path, HTTPS, TLS 1.3. `POST /v1/certificate`, token as bearer, JSON both ways.

It is open to every pod of the cluster, so what it reads is small and waited for briefly.
"""

import ssl
from typing import final

import msgspec
import structlog
from aiohttp import web

from portway.identity.issuer import Issuer, Refused
from portway.identity.listening import listen
from portway.identity.messages import PATH, CertificateRequest, IssuedCertificate, Problem

MAX_REQUEST_BYTES = 64 * 1024
PATIENCE_S = 15.0

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@final
class IssuingService:
    """Serves an issuer. `start`, then `stop`."""

    def __init__(self, issuer: Issuer, context: ssl.SSLContext) -> None:
        self._issuer = issuer
        self._context = context
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OSError: it cannot."""
        application = web.Application(client_max_size=MAX_REQUEST_BYTES)
        application.router.add_post(PATH, self._answer)
        self._runner = web.AppRunner(application, access_log=None, keepalive_timeout=PATIENCE_S)
        await self._runner.setup()
        site = web.SockSite(self._runner, listen(host, port), ssl_context=self._context)
        await site.start()
        bound: int = self._runner.addresses[0][1]
        log.info("identity service listens", address=f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}")
        return bound

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            return _problem(401, "show a ServiceAccount token: Authorization: Bearer ...")
        try:
            wanted = msgspec.json.decode(await request.read(), type=CertificateRequest)
            issued = await self._issuer.issue(token.strip(), wanted)
        except msgspec.DecodeError as error:
            return _problem(400, f"the request cannot be read: {error}")
        except Refused as error:
            response = _problem(error.status, error.problem)
            if error.retry_after is not None:
                response.headers["Retry-After"] = str(error.retry_after)
            return response
        return _json(200, issued)


def _problem(status: int, text: str) -> web.Response:
    return _json(status, Problem(problem=text))


def _json(status: int, content: Problem | IssuedCertificate) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(content), content_type="application/json")
