"""What the file source takes and refuses, and what an API server does: the same, for thousands of spoiled objects.

Each document is a template of the fuzzing tests with one or two values replaced. It is sent with `dryRun=All` to a
server with Gateway API's definitions of one channel, and read as from a file.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from portway.kubernetes.client import ApiClient, ApiError, resource_path
from portway.objects.kinds import kind_of
from portway.objects.parsing import Parsed, parse
from portway.objects.references_v1 import GATEWAY_GROUP
from tests.cluster.control_plane import ControlPlane
from tests.fuzz.values import NAMESPACES
from tests.fuzz.worlds import Raw, at, changed, sites, templates, values_for
from tests.kubernetes.planes import client_of, running_plane

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    # Time that is over within a strategy looks to hypothesis as if this drew something else each time.
    pytest.mark.timeout(600),
]

DOCUMENTS: Final = 3_000
AT_ONCE: Final = 16
GROUPS: Final = ("", "discovery.k8s.io", "networking.k8s.io", GATEWAY_GROUP)


EVERYWHERE: Final = (
    "is not a port from 1 to 65535",  # the server takes any number in an EndpointSlice; a proxy would refuse it
    '"" is none of TCP, UDP, SCTP',  # the server fills it in for a Service and refuses it in an EndpointSlice
)
ON_PURPOSE: Final = {
    "experimental": EVERYWHERE,
    # The Standard channel bounds only the length of header values, see `objects/channels.py`.
    "standard": (*EVERYWHERE, "allowed is visible ASCII characters"),
}
"""Parts of what we say where the server, for that channel, sees nothing wrong."""
EXPERIMENTAL: Final = ("ExternalAuth", "sessionPersistence", "useDefaultGateways", "defaultScope", "routability")
"""Fields and words that the Standard channel does not have: it drops or refuses them, and we read them."""


@pytest.fixture(scope="module", params=["experimental", "standard"])
def channel(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def plane(channel: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    yield from running_plane(tmp_path_factory.mktemp(channel), channel)


def documents(count: int) -> Sequence[Raw]:
    """Spoiled documents, the same in each run."""
    found: dict[str, Raw] = {}
    usable = [one for one in templates() if _group(one) in GROUPS and one["kind"] != "Namespace"]
    spoiled = st.sampled_from(usable).flatmap(_spoiled)

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(spoiled)
    def collect(raw: Raw | None) -> None:
        if raw is not None:
            found[repr(raw)] = raw

    collect()
    made = list(found.values())
    random.Random(0).shuffle(made)
    return made


def _spoiled(template: Raw) -> st.SearchStrategy[Raw | None]:
    change = st.sampled_from(sites(template)).flatmap(
        lambda site: st.tuples(st.just(site), values_for(site, at(template, site)))
    )

    def apply(changes: list[tuple[tuple[str | int, ...], object]]) -> Raw | None:
        raw: Raw | None = template
        for site, value in changes:
            raw = changed(raw, site, value) if raw is not None else None
        return raw

    return st.lists(change, min_size=1, max_size=2).map(apply)


def _group(raw: Raw) -> str:
    group, slash, _ = str(raw["apiVersion"]).rpartition("/")
    return group if slash else ""


async def refusals(client: ApiClient, documents: Sequence[Raw]) -> list[str | None]:
    """What the server says to each; empty: it takes it; None: it does not know the kind in that version."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def ask(raw: Raw) -> str | None:
        kind = kind_of(str(raw["apiVersion"]), str(raw["kind"]))
        assert kind is not None
        version = str(raw["apiVersion"]).rpartition("/")[2]
        path = resource_path(kind.group, version, kind.plural, _namespace(raw) if kind.namespaced else "")
        try:
            body = msgspec.json.encode(raw)
        except UnicodeEncodeError:
            return None  # a lone surrogate, which no JSON can carry
        try:
            async with slots:
                await client.create(path, body, dry_run=True)
        except ApiError as error:
            return None if error.status == 404 else error.message
        return ""

    return list(await asyncio.gather(*map(ask, documents)))


async def test_both_accept_or_both_refuse(plane: ControlPlane, channel: str) -> None:
    client = client_of(plane.administrator)
    for name in NAMESPACES:
        await client.create("/api/v1/namespaces", msgspec.json.encode({"metadata": {"name": name}}))
    asked = documents(DOCUMENTS)
    said = await refusals(client, asked)
    await client.close()
    different: list[str] = []
    for raw, refusal in zip(asked, said, strict=True):
        ours = parse(_as_stored(raw), from_cluster=True)
        if refusal is None or (not refusal) == (ours.object is not None) or _is_on_purpose(channel, raw, ours):
            continue
        verdicts = "; ".join(str(verdict) for verdict in ours.verdicts)
        different.append(
            f"{raw['kind']}: the server {f'refuses: {refusal}' if refusal else 'accepts'}; "
            f"we {f'refuse: {verdicts}' if verdicts else 'accept'}\n{yaml.safe_dump(raw)}"
        )
    assert sum(refusal == "" for refusal in said) > len(said) / 4
    assert not different, f"{len(different)} of {len(asked)}:\n" + "\n".join(different)


def _is_on_purpose(channel: str, raw: Raw, ours: Parsed) -> bool:
    if channel == "standard" and any(word in repr(raw) for word in EXPERIMENTAL):
        return True
    told = [verdict for verdict in ours.verdicts if not any(each in verdict.problem for each in ON_PURPOSE[channel])]
    return bool(ours.verdicts) and not told


def _namespace(raw: Raw) -> str:
    metadata = raw.get("metadata")
    return str(metadata.get("namespace", "shop")) if isinstance(metadata, dict) else "shop"


def _as_stored(raw: Raw) -> Raw:
    """With the namespace that the path says."""
    metadata = raw.get("metadata")
    kind = kind_of(str(raw["apiVersion"]), str(raw["kind"]))
    if isinstance(metadata, dict) and kind is not None and kind.namespaced:
        return {**raw, "metadata": {**metadata, "namespace": _namespace(raw)}}
    return raw
