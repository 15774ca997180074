"""Portway's CRDs on a real API server: it and Portway say the same of the same objects."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from random import Random
from typing import NamedTuple

import msgspec
import pytest
import pytest_asyncio

from portway.objects.kinds import KINDS
from portway.objects.parsing import parse_json
from portway.objects.rules import fleets, portway
from portway.objects.rules.engine import merged
from tests.cluster.api import Api, Refused, documents
from tests.cluster.control_plane import ControlPlane, wait_established
from tests.deploy.judged import EDITS, WHOLE, Value, edited, random_specs
from tests.kubernetes.planes import running_plane
from tools.definition_rules import RULES
from tools.make_manifests import DEPLOY

GENERATED = 400
"""Random objects; some 5 ms each."""


def test_every_struct_with_rules_has_some_in_cel() -> None:
    assert RULES.keys() == merged(portway.RULES, fleets.RULES).keys()


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    for plane in running_plane(tmp_path_factory.mktemp("definitions"), ""):
        asyncio.run(_prepare(plane))
        yield plane


async def _prepare(plane: ControlPlane) -> None:
    async with Api(plane.administrator) as api:
        await api.apply(documents(sorted((DEPLOY / "crds").glob("*s.yaml"))))
        await wait_established(api)


@pytest_asyncio.fixture
async def api(plane: ControlPlane) -> AsyncIterator[Api]:
    async with Api(plane.administrator) as api:
        yield api


class Judgement(NamedTuple):
    """What both sides say; empty: it is right."""

    server: str
    portway: str

    @property
    def agrees(self) -> bool:
        return bool(self.server) == bool(self.portway)


async def judge(api: Api, kind: str, spec: Value) -> Judgement:
    found = KINDS[kind]
    manifest = {
        "apiVersion": found.api_versions[0],
        "kind": kind,
        "metadata": {"name": "judged", "namespace": "default"},
        "spec": spec,
    }
    body = msgspec.json.encode(manifest)
    verdicts = parse_json(found, body).verdicts
    path = f"/apis/{found.api_versions[0]}/namespaces/default/{found.plural}"
    try:
        await api.request("POST", path, body, params={"dryRun": "All"})
    except Refused as refused:
        return Judgement(refused.body, "; ".join(map(str, verdicts)))
    return Judgement("", "; ".join(map(str, verdicts)))


@pytest.mark.cluster
async def test_server_and_portway_agree_about_each_rule(api: Api) -> None:
    cases = [*WHOLE.items(), *((edit.kind, edited(*edit)) for edit in EDITS)]
    judged = [(spec, await judge(api, kind, spec)) for kind, spec in cases]
    assert not [(spec, found) for spec, found in judged if not found.agrees]
    assert not any(found.server for _, found in judged[: len(WHOLE)]), "the whole ones are right"
    said = " ".join(found.server for _, found in judged).replace('\\"', '"')
    unused = {rule.message for rules in RULES.values() for rule in rules if rule.message not in said}
    assert unused == set(), "rules that refuse none of the cases"


@pytest.mark.cluster
async def test_server_and_portway_agree_about_anything(api: Api) -> None:
    random = Random(4)
    different = [
        (kind, spec, found)
        for kind, spec in random_specs(random, GENERATED)
        if not (found := await judge(api, kind, spec)).agrees
    ]
    assert different == []


@pytest.mark.cluster
async def test_server_shows_defaults_as_portway_has_them(api: Api) -> None:
    spec = {"targetRefs": WHOLE["UpstreamPolicy"]["targetRefs"], "healthCheck": {"http": {}}, "sessionAffinity": {}}
    kind = KINDS["UpstreamPolicy"]
    manifest = {
        "apiVersion": kind.api_versions[0],
        "kind": kind.name,
        "metadata": {"name": "p", "namespace": "default"},
        "spec": spec,
    }
    body = msgspec.json.encode(manifest)
    path = f"/apis/{kind.api_versions[0]}/namespaces/default/{kind.plural}"
    answer = await api.request("POST", path, body, params={"dryRun": "All"})
    shown = msgspec.json.decode(answer)["spec"]
    assert shown["healthCheck"]["interval"] == "5s"
    assert shown["healthCheck"]["http"]["expectedStatuses"] == [200]
    assert shown["sessionAffinity"]["cookie"]["name"] == "portway-session"
    ours, theirs = (parse_json(kind, one).object for one in (body, answer))
    assert ours is not None
    assert ours.spec == theirs.spec  # type: ignore[attr-defined, union-attr]  # both are UpstreamPolicies
