"""Spreading the hosts of one HTTP port over several route tables: scoped routes, keyed by the host's first characters.

A change inside a route configuration rebuilds all of it; smaller tables make changes cheap (`bench/route_tables.py`).
The scope's key is a header that an early header mutation copies from the first two characters of `:authority`. There is
no default scope: a wildcard host needs a scope for each prefix, and stands in each table that its hosts may fall into.
"""

import envoy.extensions.http.early_header_mutation.header_mutation.v3.header_mutation_pb2  # noqa: F401
import pytest
from envoy.config.route.v3 import scoped_route_pb2 as scoped_routev3

from portway.model.resource import ResourceType
from tests.kit.ads import type_of
from tests.kit.client import fetch
from tests.kit.lab import Laboratory, laboratory, settled, until_answer, until_subscribed
from tests.kit.load import Load
from tests.kit.resources import (
    ADS,
    eds_cluster,
    endpoints,
    http_listener,
    parse,
    route,
    typed,
    vhds_routes,
    virtual_host,
)

pytestmark = pytest.mark.e2e

HEADER = "x-portway-table"
SCOPED = type_of(scoped_routev3.ScopedRouteConfiguration())
MUTATION = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"


def scope(key: str, table: str) -> scoped_routev3.ScopedRouteConfiguration:
    tree = {"name": f"scope/{key}", "route_configuration_name": table, "key": {"fragments": [{"string_key": key}]}}
    return parse(scoped_routev3.ScopedRouteConfiguration(), tree)


def scoped_manager() -> dict[str, object]:
    """Fields of a connection manager that chooses the table by the first two characters of the host."""
    value = {"key": HEADER, "value": "%REQ(:authority):2%"}
    mutation = {"header": value, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD", "keep_empty_value": True}
    return {
        "rds": None,
        "early_header_mutation_extensions": [
            {"name": "table", "typed_config": typed(MUTATION, mutations=[{"append": mutation}])}
        ],
        "scoped_routes": {
            "name": "scopes",
            "scope_key_builder": {"fragments": [{"header_value_extractor": {"name": HEADER, "index": 0}}]},
            "rds_config_source": ADS,
            "scoped_rds": {"scoped_rds_config_source": ADS},
        },
    }


async def start(lab: Laboratory, scopes: dict[str, str]) -> int:
    """Two tables with a host each, a wildcard host in both; the scopes that map prefixes to them. The HTTP port."""
    port, ads = lab.ports.take(), lab.ads
    for name in ("a", "b", "w"):
        backend = await lab.backends.start(name)
        ads.put(endpoints(f"c-{name}", backend.port))
    ads.put(
        vhds_routes("t1", request_headers_to_remove=[HEADER]),
        vhds_routes("t2", request_headers_to_remove=[HEADER]),
        virtual_host("t1/a", ["ab.example"], route("c-a")),
        virtual_host("t2/b", ["cd.example"], route("c-b")),
        virtual_host("t1/w", ["*.wild.example"], route("c-w")),
        virtual_host("t2/w", ["*.wild.example"], route("c-w")),
        *(scope(key, table) for key, table in scopes.items()),
    )
    ads.manual.add(ResourceType.VIRTUAL_HOST)
    assert (await ads.update(*(eds_cluster(f"c-{name}") for name in ("a", "b", "w")))).error is None
    assert (await ads.update(http_listener("l", port, "", **scoped_manager()))).error is None
    await until_subscribed(ads, ResourceType.ROUTES, "t1", "t2")
    await settled(ads, ResourceType.ROUTES)
    reply = await ads.send(ResourceType.VIRTUAL_HOST, list(ads.resources[ResourceType.VIRTUAL_HOST]))
    assert reply.error is None
    return port


async def test_table_is_chosen_by_the_first_characters_of_the_host() -> None:
    async with laboratory() as lab:
        port = await start(
            lab, {"ab": "t1", "AB": "t1", "Ab": "t1", "aB": "t1", "cd": "t2", "xy": "t2", "a": "t1", "": "t2"}
        )
        await until_answer(f"http://ab.example:{port}/", pod="a")
        answers = {
            "ab.example": "a",
            f"ab.example:{port}": "a",
            "ab.example:1": "a",
            "AB.example": "a",  # as long as the other cases of the prefix have scopes of their own
            "cd.example": "b",
            "ab.wild.example": "w",
            "xy.wild.example": "w",
            "zz.wild.example": None,  # a prefix without a scope: 404, whatever the tables say
            "ab.other": None,
        }
        for host, pod in answers.items():
            answer = await fetch(f"http://x:{port}/", headers=[("host", host), (HEADER, "cd")])
            assert (host, answer.pod) == (host, pod)
            assert pod is not None or answer.status == 404
            if pod is not None:
                assert answer.echoed().header(HEADER) is None


async def test_host_moves_to_another_table_without_a_wrong_answer() -> None:
    async with laboratory() as lab:
        ads = lab.ads
        port = await start(lab, {"ab": "t1", "cd": "t2"})
        await until_answer(f"http://ab.example:{port}/", pod="a")
        async with Load(f"http://ab.example:{port}/", rate=400, connections=4) as load:
            await load.answered(50)
            moved = virtual_host("t2/a", ["ab.example"], route("c-a"))
            assert (await ads.update(moved)).error is None
            assert (await ads.update(scope("ab", "t2"))).error is None
            await load.answered(50)
            assert (await ads.send(ResourceType.VIRTUAL_HOST, removed=["t1/a"])).error is None
            await load.answered(50)
        assert not load.report().wrong({"a"}), load.report().summary()


async def test_host_is_unknown_while_its_table_has_not_arrived() -> None:
    async with laboratory() as lab:
        port = await start(lab, {"ab": "t1", "cd": "t2"})
        await until_answer(f"http://ab.example:{port}/", pod="a")
        lab.ads.put(scope("ef", "missing"))
        lab.ads.push(SCOPED, ["scope/ef"])
        await until_subscribed(lab.ads, ResourceType.ROUTES, "missing")
        assert (await fetch(f"http://ef.example:{port}/")).status == 404
        assert (await fetch(f"http://cd.example:{port}/")).pod == "b"
