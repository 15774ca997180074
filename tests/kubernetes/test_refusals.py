"""What refusals mean, by what the server says of its readiness."""

import pytest
from aiohttp import web

from portway.kubernetes.client import ApiClient, ApiError, Connection
from portway.kubernetes.refusals import DENIALS, Refusal, refusal_of
from tests.kit.ports import free_port

REFUSALS = {
    # the refusal, the answer of /readyz (0: none), failures before it
    (403, 200, 0): Refusal.DENIED,
    (403, 500, 0): Refusal.OUTAGE,
    (403, 500, 100): Refusal.OUTAGE,  # it starts, however long that takes
    (403, 503, 100): Refusal.OUTAGE,
    (403, 429, 100): Refusal.OUTAGE,
    (403, 0, 100): Refusal.OUTAGE,
    # Servers that keep it to themselves.
    **{(403, readyz, DENIALS - 1): Refusal.OUTAGE for readyz in (401, 403, 404)},
    **{(403, readyz, DENIALS): Refusal.DENIED for readyz in (401, 403, 404)},
    (500, 200, DENIALS - 1): Refusal.OUTAGE,
    (500, 200, DENIALS): Refusal.BROKEN,
    (500, 500, 100): Refusal.OUTAGE,
    (500, 403, 100): Refusal.OUTAGE,  # nobody says that it is well
    (404, 500, 0): Refusal.ABSENT,
    (410, 500, 0): Refusal.EXPIRED,
}


@pytest.mark.parametrize(("status", "readyz", "failures"), REFUSALS)
async def test_a_refusal_means(status: int, readyz: int, failures: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.path == "/readyz"
        return web.Response(status=readyz)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    if readyz:
        await web.TCPSite(runner, "127.0.0.1", port).start()
    client = ApiClient(Connection(server=f"http://127.0.0.1:{port}"))
    try:
        error = ApiError("list", "/api/v1/services", status, "", "")
        assert await refusal_of(client, error, failures=failures) is REFUSALS[status, readyz, failures]
    finally:
        await client.close()
        await runner.cleanup()
