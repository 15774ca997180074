"""Another service decides: over HTTP and over gRPC, through a real Envoy."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from envoy.service.auth.v3 import external_auth_pb2 as authv3
from envoy.type.v3 import http_status_pb2 as http_statusv3

from portway.model.route import CorsPolicy, ExternalAuth
from portway.model.upstream import Endpoint, Endpoints, Protocol, Upstream
from tests.envoy.world import World, host, hosts, route, to, upstream_key
from tests.kit.client import fetch

pytestmark = pytest.mark.e2e

HTTP = ExternalAuth(
    upstream=upstream_key("b"),
    grpc=False,
    request_headers=("authorization", "x-echo-set-header"),
    response_headers=("x-user",),
)


async def test_http_service() -> None:
    nobody = ExternalAuth(upstream=None, grpc=False)
    gone = ExternalAuth(upstream=upstream_key("gone"), grpc=False)
    prefixed = ExternalAuth(upstream=upstream_key("b"), grpc=False, path="/check")
    cors = CorsPolicy(allow_origins=("https://x.test",))
    body = ExternalAuth(upstream=upstream_key("b"), grpc=False, max_body_bytes=100)
    async with hosts(
        host("auth.test", route("/", to("a"), auth=HTTP, cors=cors)),
        host("nobody.test", route("/", to("a"), auth=nobody)),
        host("gone.test", route("/", to("a"), auth=gone)),
        host("prefixed.test", route("/", to("a"), auth=prefixed)),
        host("body.test", route("/", to("a"), auth=body)),
        host("open.test", route("/", to("a"))),
        host("unusable.test", route("/", to("a", ""), auth=nobody)),
    ) as proxy:
        sent = (("authorization", "secret"), ("x-other", "1"), ("x-user", "forged"))
        answer = await proxy.get("auth.test", "/", *sent, ("x-echo-set-header", "x-user:alice,x-role:admin"))
        assert answer.pod == "a"
        assert answer.echoed().header("x-user") == "alice"
        assert answer.echoed().header("x-role") is None
        asked = dict(proxy.backends["b"].seen[-1].headers)
        assert asked["authorization"] == "secret"
        assert "x-other" not in asked
        # The service's refusal is the answer.
        assert (await proxy.get("auth.test", "/status/401")).status == 401
        assert (await proxy.get("auth.test", "/status/500")).status in (403, 500)
        for name in ("nobody.test", "gone.test", "unusable.test"):
            answer = await proxy.get(name)
            assert (answer.status, answer.pod) == (403, None), name
        assert (await proxy.get("prefixed.test", "/x?y=1")).pod == "a"
        assert proxy.backends["b"].seen[-1].target == "/check/x?y=1"
        # Preflights bear no credentials and are not asked about.
        before = len(proxy.backends["b"].seen)
        headers = (("origin", "https://x.test"), ("access-control-request-method", "GET"))
        assert (await proxy.get("auth.test", "/status/401", *headers, method="OPTIONS")).status == 200
        assert (await proxy.get("open.test")).pod == "a"
        assert len(proxy.backends["b"].seen) == before
        await fetch("http://body.test/", port=proxy.port, method="POST", body=b"y" * 200)
        assert proxy.backends["b"].seen[-1].body == b"y" * 100
        await fetch("http://prefixed.test/", port=proxy.port, method="POST", body=b"y" * 200)
        assert proxy.backends["b"].seen[-1].body == b""


async def test_grpc_service() -> None:
    key = upstream_key("decide")
    async with deciding() as port:
        endpoints = Endpoints(endpoints=(Endpoint(address="127.0.0.1", port=port),))
        world = World(upstreams={key: (Upstream(name="shop/decide:80", protocol=Protocol.HTTP2), endpoints)})
        auth = ExternalAuth(upstream=key, grpc=True)
        async with hosts(host("auth.test", route("/", to("a"), auth=auth)), world=world) as proxy:
            assert (await proxy.get("auth.test", "/", ("x-pass", "yes"))).pod == "a"
            answer = await proxy.get("auth.test", "/")
            assert (answer.status, answer.text) == (401, "no")


@asynccontextmanager
async def deciding() -> AsyncIterator[int]:
    """An authorization service that passes whoever asks for it; yields its port."""

    async def check(request: authv3.CheckRequest, _: object) -> authv3.CheckResponse:
        response = authv3.CheckResponse()
        if request.attributes.request.http.headers.get("x-pass") != "yes":
            response.status.code = 7
            response.denied_response.status.CopyFrom(http_statusv3.HttpStatus(code=http_statusv3.Unauthorized))
            response.denied_response.body = "no"
        return response

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        check,
        request_deserializer=authv3.CheckRequest.FromString,
        response_serializer=authv3.CheckResponse.SerializeToString,
    )
    service = "envoy.service.auth.v3.Authorization"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Check": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)
