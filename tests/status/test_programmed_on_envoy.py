"""`Programmed` of a listener whose port somebody else has, as a real Envoy says it: nobody has asked the machine
before, as `app/ports.py` would."""

import socket

import pytest

from portway.envoy.names import listener_name
from portway.model.condition import Condition, ListenerReport, ObjectReport, Serving
from portway.model.names import SocketKey
from portway.objects.verdict import ObjectKey
from portway.status.programmed import PROGRAMMED, as_programmed
from tests.kit.lab import eventually
from tests.xds.world import FLEET, World, listener, route_configuration, world

pytestmark = pytest.mark.e2e


def said(it: World, port: int) -> Condition:
    promise = Condition(type=PROGRAMMED, status=True, reason="Programmed")
    serving = Serving(sockets=(SocketKey(FLEET, "127.0.0.1", port),))
    report = ObjectReport(
        object=ObjectKey("Gateway", "shop", "web"),
        listeners=(ListenerReport(name="http", conditions=(promise,), serving=serving),),
    )
    return as_programmed(report, {FLEET: it.fleet}, {}).listeners[0].conditions[0]


async def test_a_port_of_somebody_else() -> None:
    async with world(route_configuration()) as it:
        free, taken = it.ports.take(), it.ports.take()

        def wanted(port: int) -> str:
            return listener_name(SocketKey(FLEET, "127.0.0.1", port))

        with socket.socket() as other:
            other.bind(("127.0.0.1", taken))
            other.listen()
            it.apply(listener(wanted(free), free), listener(wanted(taken), taken))

            async def refused() -> bool:
                return bool(it.refusals)

            await eventually(refused, seconds=15)
            assert said(it, free).status
            found = said(it, taken)
            assert (found.status, found.reason) == (False, "Invalid")
            assert "cannot bind" in found.message
            assert "Address already in use" in found.message
        it.apply(listener(wanted(taken), taken, routes="gateway/again"), route_configuration("gateway/again"))

        async def programmed() -> bool:
            return said(it, taken).status

        await eventually(programmed, seconds=15)
