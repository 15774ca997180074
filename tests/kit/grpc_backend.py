"""gRPC echo backend: the conformance suite's GrpcEcho service, and a bidirectional stream of ours.

No .proto files: the few messages are encoded by hand (proto3 wire format: every field we use is length-delimited), so
requests and responses are plain bytes to gRPC.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from tests.kit.certificates import KeyPair
from tests.kit.echo import POD_HEADER, Identity

SERVICE = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho"

if TYPE_CHECKING:  # generic in the stubs only
    Context = grpc.aio.ServicerContext[bytes, bytes]
    Handlers = dict[str, grpc.RpcMethodHandler[bytes, bytes]]


@asynccontextmanager
async def serve_grpc(
    identity: Identity, *, port: int = 0, host: str = "127.0.0.1", tls: KeyPair | None = None
) -> AsyncIterator[int]:
    """Serve until the block ends; yields the port.

    Methods of `SERVICE`: `Echo`, `EchoTwo` (unary, answer an EchoResponse), `EchoThree` (UNIMPLEMENTED), and `Chat`
    (bidirectional: each message comes back as it is). The initial metadata carries `x-echo-pod`.
    """
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, _handlers(identity)),))
    address = f"{host}:{port}"
    if tls is None:
        bound = server.add_insecure_port(address)
    else:
        pair = (tls.key.encode(), tls.certificate.encode())
        bound = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(None)


def _handlers(identity: Identity) -> "Handlers":
    async def echo(request: bytes, context: "Context") -> bytes:
        await context.send_initial_metadata(((POD_HEADER, identity.pod),))
        return encode_response(identity, "Echo", _metadata(context))

    async def echo_two(request: bytes, context: "Context") -> bytes:
        await context.send_initial_metadata(((POD_HEADER, identity.pod),))
        return encode_response(identity, "EchoTwo", _metadata(context))

    async def chat(requests: AsyncIterator[bytes], context: "Context") -> AsyncIterator[bytes]:
        await context.send_initial_metadata(((POD_HEADER, identity.pod),))
        async for message in requests:
            yield message

    return {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "EchoTwo": grpc.unary_unary_rpc_method_handler(echo_two),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
    }


def _metadata(context: "Context") -> list[tuple[str, str]]:
    pairs = context.invocation_metadata() or ()
    return [(key, value if isinstance(value, str) else value.decode("latin-1")) for key, value in pairs]


def encode_response(identity: Identity, method: str, metadata: list[tuple[str, str]]) -> bytes:
    """An EchoResponse: assertions (1) with method (1), headers (2), context (4); the request (2) is empty."""
    context = b"".join(
        _field(number, text.encode())
        for number, text in enumerate((identity.namespace, identity.ingress, identity.service, identity.pod), start=1)
        if text
    )
    headers = b"".join(_field(2, _field(1, key.encode()) + _field(2, value.encode())) for key, value in metadata)
    assertions = _field(1, f"/{SERVICE}/{method}".encode()) + headers + _field(4, context)
    return _field(1, assertions) + _field(2, b"")


def decode_fields(message: bytes) -> list[tuple[int, bytes]]:
    """The length-delimited fields of a message, in order; raises ValueError for any other wire type."""
    fields: list[tuple[int, bytes]] = []
    at = 0
    while at < len(message):
        key, at = _decode_varint(message, at)
        if key & 7 != 2:
            raise ValueError(f"wire type {key & 7} at byte {at}")
        length, at = _decode_varint(message, at)
        fields.append((key >> 3, message[at : at + length]))
        at += length
    return fields


def decode_pod(response: bytes) -> str:
    """Who answered: `assertions.context.pod` of an EchoResponse; empty when it does not say."""
    for number, assertions in decode_fields(response):
        if number == 1:
            for inner, context in decode_fields(assertions):
                if inner == 4:
                    return dict(decode_fields(context)).get(4, b"").decode()
    return ""


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _decode_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
