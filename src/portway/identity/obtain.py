"""A proxy's side: it makes a key, shows its token and gets a certificate for it; long before the end, again.

The key never leaves the machine. Token and authorities are read from their files each time, since the kubelet replaces
them. What was obtained is kept in the state folder, so a container that starts again serves at once, also while no
control plane answers. Only the standard library and `cryptography` are used: each proxy pays for every import.
"""

import asyncio
import datetime as dt
import random
import socket
import ssl
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from portway.identity.certificates import (
    CertificateProblem,
    Credentials,
    load_certificates,
    make_credentials,
    make_key,
    make_request,
)
from portway.identity.contract import CONTROL_PLANE_NAME
from portway.identity.messages import PATH, CertificateRequest, IssuedCertificate, Place, Problem

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 1 << 20


class NotObtained(Exception):
    """There is no certificate now. The message says why; it may be another time.

    Args:
        retry_after: seconds that the control plane asks for.
    """

    def __init__(self, problem: str, retry_after: float = 0.0) -> None:
        super().__init__(problem)
        self.retry_after = retry_after


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a certificate comes from and what for."""

    addresses: tuple[str, ...]
    """`HOST:PORT` of identity services; one of them is asked, by chance, the others if it does not answer."""
    fleet: str
    node_name: str = ""
    zone: str = ""
    """Empty: the control plane is asked for it."""
    token_file: Path
    authorities_file: Path
    server_name: str = CONTROL_PLANE_NAME
    """What the control plane's certificate must say."""


class Obtained(msgspec.Struct, frozen=True, kw_only=True):
    credentials: Credentials
    place: Place


async def obtain(source: Source, *, shuffle: Callable[[list[str]], None] = random.shuffle) -> Obtained:
    """A new certificate for a new key.

    Raises:
        NotObtained: a file is missing, nobody answers, or the answer is no.
    """
    return await asyncio.to_thread(_obtain, source, shuffle)


def read_authorities(path: Path) -> bytes:
    """The bundle. Raises NotObtained: it is not there, or holds no certificate."""
    try:
        text = path.read_bytes()
        load_certificates(text)
    except (OSError, CertificateProblem) as error:
        raise NotObtained(f"authorities: {path}: {_reason(error)}") from error
    return text


def _obtain(source: Source, shuffle: Callable[[list[str]], None]) -> Obtained:
    authorities = read_authorities(source.authorities_file)
    try:
        token = source.token_file.read_text().strip()
    except OSError as error:
        raise NotObtained(f"token: {source.token_file}: {_reason(error)}") from error
    key = make_key()
    body = msgspec.json.encode(
        CertificateRequest(
            request=make_request(key).decode(), fleet=source.fleet, node_name=source.node_name, zone=source.zone
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=authorities.decode())
    issued = _ask_one(source, context, token, body, shuffle)
    try:
        credentials = make_credentials(issued.certificates.encode(), key, authorities)
    except CertificateProblem as error:
        raise NotObtained(f"the certificate that came is of no use: {error}") from error
    return Obtained(credentials=credentials, place=Place(zone=issued.zone, region=issued.region))


def _ask_one(
    source: Source, context: ssl.SSLContext, token: str, body: bytes, shuffle: Callable[[list[str]], None]
) -> IssuedCertificate:
    addresses = list(source.addresses)
    shuffle(addresses)
    problems: list[str] = []
    for address in addresses:
        try:
            return _ask(address, source.server_name, context, token, body)
        except (OSError, HTTPException) as error:
            problems.append(f"{address}: {_reason(error)}")
    raise NotObtained("no control plane answers: " + "; ".join(problems))


class _Connection(HTTPConnection):
    """TLS that asks for a name of our choice, whatever the address."""

    def __init__(self, address: str, server_name: str, context: ssl.SSLContext) -> None:
        host, _, port = address.rpartition(":")
        super().__init__(host.strip("[]"), int(port), timeout=TIMEOUT_S)
        self._server_name = server_name
        self._context = context

    def connect(self) -> None:
        plain = socket.create_connection((self.host, self.port), TIMEOUT_S)
        try:
            self.sock = self._context.wrap_socket(plain, server_hostname=self._server_name)
        except OSError:
            plain.close()
            raise


def _ask(address: str, server_name: str, context: ssl.SSLContext, token: str, body: bytes) -> IssuedCertificate:
    connection = _Connection(address, server_name, context)
    try:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Connection": "close"}
        connection.request("POST", PATH, body, headers)
        response = connection.getresponse()
        content = response.read(MAX_ANSWER_BYTES)
    finally:
        connection.close()
    if response.status != 200:
        raise NotObtained(f"{address} refuses: {response.status} {_problem_of(content)}", _retry_after(response))
    try:
        return msgspec.json.decode(content, type=IssuedCertificate)
    except msgspec.DecodeError as error:
        raise NotObtained(f"{address} answers nonsense: {error}") from error


def _problem_of(content: bytes) -> str:
    try:
        return msgspec.json.decode(content, type=Problem).problem
    except (msgspec.DecodeError, UnicodeDecodeError):
        return content[:200].decode(errors="replace")


def _retry_after(response: HTTPResponse) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not believed: {error.verify_message}"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error) or type(error).__name__


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    certificates: str
    key: str
    place: Place = Place()


def encode_kept(obtained: Obtained) -> bytes:
    """For a file that its owner alone may read."""
    return msgspec.json.encode(
        _Kept(
            certificates=obtained.credentials.certificates.decode(),
            key=obtained.credentials.key.decode(),
            place=obtained.place,
        )
    )


def decode_kept(content: bytes, authorities: bytes, now: dt.datetime) -> Obtained | None:
    """What was kept, if it is still of use: not ended, and of an authority that is believed."""
    try:
        kept = msgspec.json.decode(content, type=_Kept)
        credentials = make_credentials(kept.certificates.encode(), kept.key.encode(), authorities)
    except (msgspec.DecodeError, UnicodeDecodeError, CertificateProblem):
        return None
    if not credentials.not_before <= now < credentials.not_after or not is_believed(credentials):
        return None
    return Obtained(credentials=credentials, place=kept.place)


def is_believed(credentials: Credentials) -> bool:
    """Whether one of the authorities signed the certificate."""
    own = load_certificates(credentials.certificates)[-1]
    return any(_signed(own, one) for one in load_certificates(credentials.authorities))


def _signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
