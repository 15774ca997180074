"""Who gets a certificate, over the wire: a proxy's side and the control plane's side of the identity service."""

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from portway.identity.authorities import Authority, bundle, make_authority
from portway.identity.certificates import load_certificates, make_key, make_request, uris_of
from portway.identity.issuer import Issuer, IssuerLimits, Owner, Refused
from portway.identity.messages import CertificateRequest, Place
from portway.identity.obtain import NotObtained, Obtained, Source, decode_kept, encode_kept, obtain
from portway.identity.service import IssuingService
from portway.identity.serving import ServingIdentity
from portway.identity.tokens import Bearer, TokenReviewer
from tests.identity.fake_api import FakeApi

PUBLIC = Bearer(namespace="shop", service_account="portway-public", pod="public-1", pod_uid="u1", node="node-1")
FLEETS = {
    "gateway/shop/public": Owner(namespace="shop", service_account="portway-public"),
    "gateway/bank/vault": Owner(namespace="bank", service_account="portway-vault"),
}
ZONES = {"node-1": Place(zone="zone-a", region="region-1")}


async def place_of(node: str) -> Place:
    return ZONES.get(node, Place())


class Service:
    """A running identity service, and what a pod of it holds."""

    def __init__(self, folder: Path, limits: IssuerLimits | None = None) -> None:
        self.api = FakeApi()
        self.authority = make_authority(dt.datetime.now(dt.UTC))
        self.identity = ServingIdentity(["portway.portway.svc"])
        self.now = 0.0
        self.fleets = dict(FLEETS)
        self.issuer = Issuer(
            TokenReviewer(self.api), self.fleets.get, place_of, limits=limits, monotonic=lambda: self.now
        )
        self.use(self.authority)
        self.source = Source(
            addresses=(),
            fleet="gateway/shop/public",
            token_file=folder / "token",
            authorities_file=folder / "ca.crt",
        )
        self.believe(self.authority)
        self.show(self.api.token(PUBLIC))

    def use(self, *authorities: Authority) -> None:
        self.identity.use(authorities)
        self.issuer.use(authorities)

    def believe(self, *authorities: Authority) -> None:
        self.source.authorities_file.write_bytes(bundle(authorities))

    def show(self, token: str) -> None:
        self.source.token_file.write_text(f"{token}\n")

    async def ask(self, fleet: str, token: str = "") -> int:
        """As over the wire. Returns the status."""
        wanted = CertificateRequest(request=make_request(make_key()).decode(), fleet=fleet)
        try:
            await self.issuer.issue(token or self.source.token_file.read_text().strip(), wanted)
        except Refused as error:
            return error.status
        return 200

    async def obtain(self, fleet: str = "gateway/shop/public", **others: object) -> Obtained:
        return await obtain(msgspec.structs.replace(self.source, fleet=fleet, **others))


@asynccontextmanager
async def serving(folder: Path, limits: IssuerLimits | None = None) -> AsyncIterator[Service]:
    service = Service(folder, limits)
    door = IssuingService(service.issuer, service.identity.server_context())
    port = await door.start("127.0.0.1", 0)
    service.source = msgspec.structs.replace(service.source, addresses=(f"127.0.0.1:{port}",))
    try:
        yield service
    finally:
        await door.stop()


async def test_a_token_becomes_a_certificate_of_its_workload(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        obtained = await service.obtain()
    certificate = load_certificates(obtained.credentials.certificates)[0]
    assert uris_of(certificate) == ("spiffe://portway.internal/ns/shop/sa/portway-public",)
    assert certificate.subject.rfc4514_string() == "CN=public-1"
    assert obtained.place == Place(zone="zone-a", region="region-1")
    life = obtained.credentials.not_after - dt.datetime.now(dt.UTC)
    assert dt.timedelta(hours=23) < life <= dt.timedelta(hours=24)
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [use.dotted_string for use in uses] == ["1.3.6.1.5.5.7.3.2"], "a proxy must not pass for a control plane"


async def test_a_proxy_that_knows_its_zone_is_not_looked_up(tmp_path: Path) -> None:
    """API servers from 1.35 on tell it. What is known to it is said back."""
    async with serving(tmp_path) as service:
        assert (await service.obtain(zone="zone-z")).place == Place(zone="zone-z")


def in_the_past() -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)


def unbound(api: FakeApi) -> str:
    return api.token(msgspec.structs.replace(PUBLIC, pod=""))


def of_a_deleted_pod(api: FakeApi) -> str:
    token = api.token(PUBLIC)
    api.forget(token)
    return token


TOKENS: dict[str, tuple[Callable[[FakeApi], str], str]] = {
    "is for another audience": (lambda api: api.token(PUBLIC, ["https://kubernetes.default.svc"]), "401 .* not for"),
    "has expired": (lambda api: api.token(PUBLIC, expires=in_the_past()), "401 the token has expired"),
    "is forged": (lambda api: api.token(PUBLIC)[:-4] + "Zm9y", "401 the API server refuses the token"),
    "is of a deleted pod": (of_a_deleted_pod, "401 the API server refuses the token"),
    "is no token": (lambda api: "hello", "401 the token is no JSON Web Token"),
    "is bound to no pod": (unbound, "401 .* bound to no pod"),
    "is of another fleet": (
        lambda api: api.token(Bearer(namespace="bank", service_account="portway-vault", pod="vault-1")),
        "403 ServiceAccount bank/portway-vault may not have fleet 'gateway/shop/public'",
    ),
    "is of the same name in another namespace": (
        lambda api: api.token(Bearer(namespace="bank", service_account="portway-public", pod="x")),
        "403 ",
    ),
}


@pytest.mark.parametrize("what", TOKENS)
async def test_no_certificate_for_a_token_that(what: str, tmp_path: Path) -> None:
    make, problem = TOKENS[what]
    async with serving(tmp_path) as service:
        service.show(make(service.api))
        with pytest.raises(NotObtained, match=problem):
            await service.obtain()
        assert service.issuer.statistics().issued == 0


async def test_tokens_that_cannot_be_right_do_not_reach_the_api_server(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        for token in ("hello", service.api.token(PUBLIC, ["x"]), service.api.token(PUBLIC, expires=in_the_past())):
            service.show(token)
            with pytest.raises(NotObtained):
                await service.obtain()
        assert service.api.reviews == 0


async def test_a_fleet_that_is_not_known_yet_may_be_asked_for_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        with pytest.raises(NotObtained, match="is not known") as failure:
            await service.obtain("gateway/shop/new")
        assert failure.value.retry_after == 1


async def test_without_an_api_server_there_are_no_new_certificates_for_now(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        service.api.down = True
        with pytest.raises(NotObtained, match="503 the token cannot be reviewed") as failure:
            await service.obtain()
        assert failure.value.retry_after >= 1
        service.api.down = False
        await service.obtain()


async def test_a_pod_gets_a_few_certificates_at_once_and_then_one_at_a_time(tmp_path: Path) -> None:
    async with serving(tmp_path, IssuerLimits(burst=2, interval_s=60)) as service:
        await service.obtain()
        await service.obtain()
        with pytest.raises(NotObtained, match="429 pod shop/public-1") as failure:
            await service.obtain()
        assert 55 <= failure.value.retry_after <= 61
        service.show(service.api.token(msgspec.structs.replace(PUBLIC, pod="public-2", pod_uid="u2")))
        await service.obtain()


@pytest.mark.parametrize(("fleet", "refused"), [("gateway/bank/vault", 403), ("gateway/shop/nothing", 404)])
async def test_a_good_token_that_asks_without_end_costs_one_review_and_nobody_else_a_turn(
    fleet: str, refused: int, tmp_path: Path
) -> None:
    service = Service(tmp_path, IssuerLimits(requests=3, request_interval_s=2.0, reviews=1))
    outcomes = await asyncio.gather(*(service.ask(fleet) for _ in range(16)))
    assert sorted(outcomes) == [refused] * 3 + [429] * 13
    assert service.api.reviews == 1
    other = service.api.token(msgspec.structs.replace(PUBLIC, pod="public-2", pod_uid="u2"))
    assert await service.ask("gateway/shop/public", other) == 200
    service.now = 2.0
    assert [await service.ask(fleet) for _ in range(2)] == [refused, 429]


async def test_a_proxy_that_comes_before_its_fleet_is_known_is_not_locked_out(tmp_path: Path) -> None:
    """It waits twice as long each time, as `TokenIdentity` does at its quickest; its container starts anew, too."""
    service = Service(tmp_path)
    waits = [1.0, 1.0, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
    for wait in waits * 2:
        assert await service.ask("gateway/shop/new") == 404
        service.now += wait
    service.fleets["gateway/shop/new"] = FLEETS["gateway/shop/public"]
    assert [await service.ask("gateway/shop/new") for _ in range(5)] == [200] * 5


async def test_a_token_counts_as_good_for_some_seconds_after_its_review(tmp_path: Path) -> None:
    service = Service(tmp_path, IssuerLimits(known_s=10.0))
    token = service.source.token_file.read_text().strip()
    assert await service.ask("gateway/shop/public") == 200
    service.api.forget(token)
    service.now = 9.0
    assert await service.ask("gateway/shop/public") == 200
    service.now = 10.0
    assert await service.ask("gateway/shop/public") == 401
    assert service.api.reviews == 2


async def test_a_review_that_was_broken_off_is_asked_for_by_who_waits(tmp_path: Path) -> None:
    service = Service(tmp_path)
    async with asyncio.TaskGroup() as tasks:
        first, second = (tasks.create_task(service.ask("gateway/shop/public")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
    assert second.result() == 200


async def test_a_control_plane_of_another_authority_is_not_told_the_token(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        service.use(make_authority(dt.datetime.now(dt.UTC)))
        with pytest.raises(NotObtained, match="its certificate is not believed"):
            await service.obtain()
        assert service.api.reviews == 0


async def test_a_proxy_cannot_pass_for_a_control_plane(tmp_path: Path) -> None:
    """A certificate of a proxy, shown by a server that wants to collect tokens."""
    async with serving(tmp_path) as service:
        obtained = await service.obtain()
        (tmp_path / "pair.pem").write_bytes(obtained.credentials.certificates + obtained.credentials.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "pair.pem")
        asked = IssuingService(service.issuer, context)
        port = await asked.start("127.0.0.1", 0)
        try:
            for name in ("control-plane.portway.internal", "public-1"):
                with pytest.raises(NotObtained, match="not believed"):
                    await service.obtain(addresses=(f"127.0.0.1:{port}",), server_name=name)
        finally:
            await asked.stop()


async def test_another_address_is_asked_when_one_does_not_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        await service.obtain(addresses=("127.0.0.1:1", *service.source.addresses, "127.0.0.1:2"))
        with pytest.raises(NotObtained, match=r"no control plane answers: 127\.0\.0\.1:1: Connection refused"):
            await service.obtain(addresses=("127.0.0.1:1",))


def weak_request() -> str:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is the point
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def forged_request() -> str:
    """Somebody else's public key, whose private one the sender does not have."""
    der = x509.load_pem_x509_csr(make_request(make_key())).public_bytes(Encoding.DER)
    other = x509.load_pem_x509_csr(make_request(make_key()))
    mine = x509.load_der_x509_csr(der).public_key()
    numbers = [key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) for key in (mine, other.public_key())]
    swapped = der.replace(numbers[0], numbers[1])
    return x509.load_der_x509_csr(swapped).public_bytes(Encoding.PEM).decode()


REQUESTS: dict[str, tuple[Callable[[], str], str]] = {
    "is nonsense": (lambda: "nonsense", "cannot be read"),
    "has a weak key": (weak_request, "too weak"),
    "has a key that its sender does not have": (forged_request, "not signed with its own key"),
}


@pytest.mark.parametrize("what", REQUESTS)
async def test_no_certificate_for_a_request_that(what: str, tmp_path: Path) -> None:
    make, problem = REQUESTS[what]
    service = Service(tmp_path)
    token = service.source.token_file.read_text().strip()
    with pytest.raises(Refused, match=problem) as refusal:
        await service.issuer.issue(token, CertificateRequest(request=make(), fleet=service.source.fleet))
    assert refusal.value.status == 400


async def test_more_than_may_wait_are_sent_away(tmp_path: Path) -> None:
    service = Service(tmp_path, IssuerLimits(reviews=1, waiting=2))
    pods = [msgspec.structs.replace(PUBLIC, pod=f"public-{number}", pod_uid=f"u{number}") for number in range(6)]
    outcomes = await asyncio.gather(*(service.ask(service.source.fleet, service.api.token(pod)) for pod in pods))
    assert 503 in outcomes
    assert service.issuer.statistics().issued >= 2


async def test_what_was_kept_is_used_while_it_is_believed_and_has_not_ended(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        obtained = await service.obtain()
        kept, now = encode_kept(obtained), dt.datetime.now(dt.UTC)
        believed = bundle([service.authority])
        assert decode_kept(kept, believed, now) == obtained
        assert decode_kept(kept, believed, now + dt.timedelta(hours=25)) is None
        assert decode_kept(kept, bundle([make_authority(now)]), now) is None
        assert decode_kept(b"{}", believed, now) is None
