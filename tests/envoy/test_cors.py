"""Cross-origin requests through a real Envoy, as Gateway API's `CORS` filter wants them answered."""

from datetime import timedelta

import msgspec
import pytest

from portway.model.route import CorsPolicy, Respond
from tests.envoy.world import Hosts, host, hosts, route, to
from tests.kit.answer import Answer

pytestmark = pytest.mark.e2e

FULL = CorsPolicy(
    allow_origins=("https://www.foo.com", "https://*.bar.com", "https://*.baz.com:12345", "https://port.com:8443"),
    allow_methods=("GET", "OPTIONS"),
    allow_headers=("x-header-1", "x-header-2"),
    expose_headers=("x-header-3", "x-header-4"),
    allow_credentials=True,
    max_age=timedelta(hours=1),
)
STAR = CorsPolicy(allow_origins=("*",), allow_methods=("*",), allow_headers=("*",))
STAR_WITH_CREDENTIALS = msgspec.structs.replace(STAR, allow_credentials=True, expose_headers=("x-a",))
BARE = CorsPolicy(allow_origins=("https://www.foo.com",))

HOSTS = (
    host("full.test", route("/", to("a"), cors=FULL)),
    host("star.test", route("/", to("a"), cors=STAR)),
    host("credentials.test", route("/", to("a"), cors=STAR_WITH_CREDENTIALS)),
    host("bare.test", route("/", to("a"), cors=BARE)),
    host("own.test", route("/", Respond(status=500), cors=FULL)),
)

ORIGINS = {
    # origin: allowed by FULL?
    "https://www.foo.com": True,
    "http://www.foo.com": False,
    "https://foo.com": False,
    "https://www.foo.com:8443": False,
    "https://a.bar.com": True,
    "https://a.b.bar.com": True,  # `*` reaches over labels
    "https://bar.com": False,
    "https://a.bar.com.evil.com": False,
    "https://a/.bar.com": False,
    "https://a.bar.com:443": False,
    "https://a.baz.com:12345": True,
    "https://a.baz.com": False,
    "https://port.com:8443": True,
    "https://port.com": False,
    "null": False,
}


async def preflight(proxy: Hosts, name: str, origin: str, *headers: tuple[str, str]) -> Answer:
    asked = (("origin", origin), ("access-control-request-method", "PUT"), *headers)
    return await proxy.get(name, "/", *asked, method="OPTIONS")


def allowed(answer: Answer) -> dict[str, str]:
    """The access-control fields of an answer."""
    prefix = "access-control-"
    return {name.removeprefix(prefix): value for name, value in answer.headers if name.startswith(prefix)}


async def test_cors() -> None:
    async with hosts(*HOSTS) as proxy:
        await origins(proxy)
        await wildcards(proxy)
        # What is not declared is not sent; the age is: Gateway API's default is 5 seconds.
        answer = await preflight(proxy, "bare.test", "https://www.foo.com")
        assert allowed(answer) == {"allow-origin": "https://www.foo.com", "max-age": "5"}
        # OPTIONS that is no preflight goes to the backend; so does a preflight where there is no policy.
        answer = await proxy.get("full.test", "/", ("origin", "https://a.bar.com"), method="OPTIONS")
        assert (answer.pod, answer.header("access-control-allow-origin")) == ("a", "https://a.bar.com")
        assert (await preflight(proxy, "own.test", "https://www.foo.com")).status == 500


async def origins(proxy: Hosts) -> None:
    for origin, fits in ORIGINS.items():
        answer = await preflight(proxy, "full.test", origin)
        assert (answer.status, answer.pod) == (200, None), origin
        if fits:
            assert allowed(answer) == {
                "allow-origin": origin,
                "allow-credentials": "true",
                "allow-methods": "GET, OPTIONS",
                "allow-headers": "x-header-1, x-header-2",
                "expose-headers": "x-header-3, x-header-4",
                "max-age": "3600",
            }
        else:
            assert "allow-origin" not in allowed(answer), origin
        answer = await proxy.get("full.test", "/", ("origin", origin))
        assert answer.pod == "a", origin
        expected = {"allow-origin": origin, "allow-credentials": "true", "expose-headers": "x-header-3, x-header-4"}
        assert allowed(answer) == (expected if fits else {}), origin
        assert answer.header("vary") == "Origin"


async def wildcards(proxy: Hosts) -> None:
    asked = ("access-control-request-headers", "x-one, x-two")
    for name, credentials in (("star.test", False), ("credentials.test", True)):
        answer = allowed(await preflight(proxy, name, "https://any.com", asked))
        # Echoed, never `*`: with credentials a browser would take that for a literal name (Fetch standard).
        assert (answer["allow-origin"], answer["allow-methods"], answer["allow-headers"]) == (
            "https://any.com",
            "PUT",
            "x-one, x-two",
        )
        assert ("allow-credentials" in answer) is credentials
