"""TLS with clients and with backends: which certificate is shown to whom, and who may come."""

import asyncio
import ssl
import warnings
from collections.abc import Sequence
from functools import partial

import msgspec
import pytest
from cryptography import x509

from tests.kit.answer import Failure
from tests.kit.backends import Kind
from tests.kit.certificates import Authority, KeyPair, client_context
from tests.kit.client import fetch
from tests.kit.manifests import config_map, gateway_with, http_route, ingress, secret, service
from tests.kit.world import World, world_fixture

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

world = world_fixture("--default-certificate", "infra/fallback")

AUTHORITY = Authority()
FALLBACK = AUTHORITY.issue("fallback.test")


async def shown(world: World, name: str | None, context: ssl.SSLContext | None = None, *, port: int = 0) -> str:
    """Serial number of the certificate that a server name gets; `None`: no name is sent."""
    context = context or client_context(None)
    _, writer = await asyncio.open_connection(
        "127.0.0.1", port or world.running.https_port, ssl=context, server_hostname=name or ""
    )
    try:
        encoded = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    return format(x509.load_der_x509_certificate(encoded).serial_number, "x")


async def shows(world: World, name: str | None, pair: KeyPair) -> None:
    """Wait until a server name gets this certificate."""

    async def is_shown() -> bool:
        try:
            return await shown(world, name) == pair.serial()
        except ConnectionRefusedError:
            return False  # nobody listens before the first Ingress

    await world.until(is_shown, f"{name} shows its certificate")


async def web(world: World) -> None:
    """The backend and the default certificate that all tests share."""
    if not (world.running.files / "web.yaml").exists():
        made = await world.backends.start("web")
        world.declare(
            "web", service("web", [made.port]), secret("fallback", FALLBACK.certificate, FALLBACK.key, "infra")
        )


def tls_ingress(name: str, host: str, pair: KeyPair) -> tuple[str, str]:
    """An Ingress for a host and its Secret, both of that name."""
    return ingress(name, host, [("/", "web")], tls=name), secret(name, pair.certificate, pair.key)


async def test_each_server_name_gets_its_certificate(world: World) -> None:
    await web(world)
    one, two, wild = AUTHORITY.issue("one.test"), AUTHORITY.issue("two.test"), AUTHORITY.issue("*.wild.test")
    world.declare(
        "names",
        *tls_ingress("one", "one.test", one),
        *tls_ingress("two", "two.test", two),
        *tls_ingress("wild", '"*.wild.test"', wild),
    )
    for name, pair in (("one.test", one), ("two.test", two), ("a.wild.test", wild), ("other.test", FALLBACK)):
        await shows(world, name, pair)
    # Names that nobody declares, and clients that send none.
    for other in (None, "wild.test"):
        await shows(world, other, FALLBACK)
    trusting = client_context(AUTHORITY.certificate, alpn=("http/1.1",))
    for name in ("one.test", "two.test", "a.wild.test"):
        answer = await world.running.get(f"https://{name}/", tls=trusting)
        assert (answer.status, answer.pod) == (200, "web")
        redirect = await world.running.get(f"http://{name}/x")
        assert redirect.status == 308
        assert redirect.header("location") == f"https://{name}:{world.running.https_port}/x"


async def test_a_wildcard_of_an_ingress_is_one_label(world: World) -> None:
    """Also in the handshake: deeper names get the default certificate and the default backend, as in ingress-nginx."""
    await web(world)
    wild = AUTHORITY.issue("*.label.test", "label.test")
    other = AUTHORITY.issue("*.deep.label.test", with_rsa=True)
    world.declare(
        "labels",
        *tls_ingress("labels", '"*.label.test"', wild),
        ingress("inside", "plain.deeper.label.test", [("/", "web")]),
        *tls_ingress("deep", '"*.deep.label.test"', other),
    )
    await shows(world, "a.deep.label.test", other)
    for name in ("a.label.test", "A.label.test"):
        await shows(world, name, wild)
    for deeper in ("a.b.label.test", "plain.deeper.label.test", "a.b.deep.label.test", "label.test"):
        await shows(world, deeper, FALLBACK)
    assert (await world.running.get("https://a.label.test/")).pod == "web"
    assert (await world.running.get("https://plain.deeper.label.test/")).pod == "web"
    assert (await world.running.get("https://a.b.label.test/")).status == 404


async def test_a_wildcard_of_a_gateway_is_any_number_of_labels(world: World) -> None:
    await web(world)
    wild = AUTHORITY.issue("*.any.test")
    port = world.ports.take()
    listener = (
        f'name: w, port: {port}, protocol: HTTPS, hostname: "*.any.test", tls: {{certificateRefs: [{{name: any}}]}}'
    )
    world.declare(
        "any",
        gateway_with("any", [listener]),
        http_route("any", "any", '"*.any.test"', [("/", "web")]),
        secret("any", wild.certificate, wild.key),
    )
    for name in ("a.any.test", "a.b.c.any.test"):
        answer = await world.answered(partial(fetch, f"https://{name}:{port}/"))
        assert answer.pod == "web"
        assert await shown(world, name, port=port) == wild.serial()


async def test_a_secret_that_comes_later_is_shown_then(world: World) -> None:
    await web(world)
    pair = AUTHORITY.issue("late.test")
    declared, its_secret = tls_ingress("late", "late.test", pair)
    world.declare("late", declared)
    await shows(world, "late.test", FALLBACK)
    await world.served("https://late.test/", by="web")
    assert "Secret shop/late does not exist" in await reported(world, "Ingress shop/late")
    world.declare("late-secret", its_secret)
    await shows(world, "late.test", pair)
    world.running.remove("late-secret.yaml")
    await shows(world, "late.test", FALLBACK)


async def reported(world: World, name: str) -> str:
    """What Portway has to say about an object, as text."""
    status = await world.running.status()
    reports = msgspec.convert(status["reports"], list[dict[str, object]])
    return "\n".join(str(report) for report in reports if report["object"] == name)


async def test_bad_certificates_are_reported_and_hurt_nobody(world: World) -> None:
    await web(world)
    expired, mismatching = AUTHORITY.issue_expired("expired.test"), AUTHORITY.issue_mismatching("mismatch.test")
    world.declare(
        "bad", *tls_ingress("expired", "expired.test", expired), *tls_ingress("mismatch", "mismatch.test", mismatching)
    )
    # An expired one is shown, as any client will say what is wrong with it; one without its key cannot be.
    await shows(world, "expired.test", expired)
    await shows(world, "mismatch.test", FALLBACK)
    assert "expired" in await reported(world, "Ingress shop/expired")
    assert "the default certificate is shown" in await reported(world, "Ingress shop/mismatch")
    refused = await world.running.get("https://expired.test/", tls=client_context(AUTHORITY.certificate))
    assert refused.failure is Failure.TLS


async def test_versions_before_tls_12_are_refused(world: World) -> None:
    await web(world)
    context = client_context(None)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # which is the point
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        await shown(world, "any.test", context)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = client_context(None)
        context.minimum_version = context.maximum_version = version
        await shown(world, "any.test", context)


def https_gateway(name: str, port: int, secrets: Sequence[str], more: str = "") -> str:
    """A Gateway with one HTTPS listener that has these Secrets."""
    references = ", ".join(f"{{name: {each}}}" for each in secrets)
    return gateway_with(
        name, [f"name: https, port: {port}, protocol: HTTPS, tls: {{certificateRefs: [{references}]}}"], more=more
    )


async def test_clients_get_the_certificate_whose_key_they_speak(world: World) -> None:
    await web(world)
    curve, rsa = AUTHORITY.issue("keys.test"), AUTHORITY.issue("keys.test", with_rsa=True)
    port = world.ports.take()
    world.declare(
        "keys",
        https_gateway("keys", port, ["keys-ec", "keys-rsa"]),
        http_route("keys", "keys", "keys.test", [("/", "web")]),
        secret("keys-ec", curve.certificate, curve.key),
        secret("keys-rsa", rsa.certificate, rsa.key),
    )
    await world.answered(lambda: fetch(f"https://keys.test:{port}/"))
    for cipher, pair in (("ECDHE-RSA-AES128-GCM-SHA256", rsa), ("ECDHE-ECDSA-AES128-GCM-SHA256", curve)):
        context = client_context(None)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(cipher)
        assert await shown(world, "keys.test", context, port=port) == pair.serial(), cipher
        assert await shown(world, "unknown.test", context, port=port) == pair.serial(), cipher


VALIDATION = """\
  tls:
    frontend:
      default:
        validation: {{mode: {mode}, caCertificateRefs: [{{group: "", kind: ConfigMap, name: {name}}}]}}"""


@pytest.mark.parametrize("mode", ["AllowValidOnly", "AllowInsecureFallback"])
async def test_client_certificates(world: World, mode: str) -> None:
    await web(world)
    name = mode.lower()
    pair, clients, strangers = AUTHORITY.issue(f"{name}.test"), Authority("clients"), Authority("strangers")
    port = world.ports.take()
    world.declare(
        name,
        https_gateway(name, port, [name], VALIDATION.format(mode=mode, name=name)),
        http_route(name, name, f"{name}.test", [("/", "web")]),
        secret(name, pair.certificate, pair.key),
        config_map(name, "ca.crt", clients.certificate),
    )

    async def status(own: KeyPair | None) -> int:
        context = client_context(AUTHORITY.certificate, alpn=("http/1.1",), pair=own)
        return (await fetch(f"https://{name}.test:{port}/", tls=context)).status

    good, bad = clients.issue("client"), strangers.issue("stranger")

    async def is_served() -> bool:
        return await status(good) == 200

    await world.until(is_served, "served with a good certificate")
    others = 200 if mode == "AllowInsecureFallback" else 0
    assert await status(None) == others
    assert await status(bad) == others


BACKEND_TLS = """\
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{name: {name}, namespace: shop}}
spec:
  targetRefs: [{{group: "", kind: Service, name: {name}}}]
  validation:
    hostname: {hostname}
    caCertificateRefs: [{{group: "", kind: ConfigMap, name: backends-ca}}]
"""


async def test_backendtlspolicy_encrypts_and_verifies(world: World) -> None:
    inner, clients = Authority("backends"), Authority("proxies")
    made = await world.backends.start(
        "secure", tls=inner.issue("secure.internal"), client_authority=clients.certificate
    )
    outer, own = AUTHORITY.issue("outer.test"), clients.issue("portway")
    port = world.ports.take()

    def declare(hostname: str) -> None:
        world.declare(
            "secure",
            https_gateway(
                "outer", port, ["outer"], more="  tls: {backend: {clientCertificateRef: {name: proxy-client}}}"
            ),
            http_route("outer", "outer", "outer.test", [("/", "secure")]),
            service("secure", [made.port]),
            BACKEND_TLS.format(name="secure", hostname=hostname),
            config_map("backends-ca", "ca.crt", inner.certificate),
            secret("outer", outer.certificate, outer.key),
            secret("proxy-client", own.certificate, own.key),
        )

    declare("secure.internal")
    answer = await world.answered(lambda: fetch(f"https://outer.test:{port}/"))
    tls = answer.echoed().tls
    assert tls is not None
    assert tls.server_name == "secure.internal"
    assert len(tls.peer_certificates) == 1, "the proxy did not show its certificate"
    # A name that the backend's certificate does not have: no plain text, no unverified TLS.
    declare("other.internal")
    refused = await world.answered(lambda: fetch(f"https://outer.test:{port}/"), status=503)
    assert refused.pod is None
    # A missing authority fails closed too.
    declare("secure.internal")
    await world.answered(lambda: fetch(f"https://outer.test:{port}/"))
    world.declare("secure", world_without_authority(port, made.port, outer))
    missing = await world.answered(lambda: fetch(f"https://outer.test:{port}/"), status=500)
    assert missing.pod is None


def world_without_authority(port: int, backend_port: int, pair: KeyPair) -> str:
    return "---\n".join(
        (
            https_gateway("outer", port, ["outer"]),
            http_route("outer", "outer", "outer.test", [("/", "secure")]),
            service("secure", [backend_port]),
            BACKEND_TLS.format(name="secure", hostname="secure.internal"),
            secret("outer", pair.certificate, pair.key),
        )
    )


@pytest.mark.parametrize("kind", [Kind.HTTP1, Kind.HTTP2])
async def test_backend_protocol_https_by_ingress(world: World, kind: Kind) -> None:
    name = f"again-{kind}"
    made = await world.backends.start(name, kind, tls=Authority().issue(name))
    world.declare(
        name,
        service(name, [made.port], app_protocol="kubernetes.io/h2c" if kind is Kind.HTTP2 else ""),
        ingress(
            name,
            f"{name}.test",
            [("/", name)],
            annotations={"backend-protocol": "HTTPS" if kind is Kind.HTTP1 else "GRPCS"},
        ),
    )
    await world.served(f"http://{name}.test/", by=name)
    answer = await world.running.get(f"http://{name}.test/")
    assert answer.echoed().tls is not None
