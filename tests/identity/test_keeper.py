"""The authorities in a Secret that several replicas share."""

import base64
import datetime as dt

import pytest

from portway.identity.authorities import REPLACED_AFTER, Authority
from portway.identity.certificates import CertificateProblem
from portway.identity.keeper import AuthorityKeeper
from portway.kubernetes.errors import ApiUnreachable
from tests.identity.fake_api import FakeApi

BEGIN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class Replica:
    """One control plane: what it believes, and its clock."""

    def __init__(self, api: FakeApi) -> None:
        self.now = BEGIN
        self.told: list[tuple[Authority, ...]] = []
        self.keeper = AuthorityKeeper(api, "portway", self.told.append, clock=lambda: self.now)

    async def look(self) -> tuple[str, ...]:
        return tuple(one.name for one in await self.keeper.look())


async def test_whoever_comes_first_makes_it_and_all_others_read_it() -> None:
    api = FakeApi()
    replicas = [Replica(api) for _ in range(3)]
    looks = [await replica.look() for replica in replicas]
    assert len(set(looks)) == 1
    assert api.writes == 1
    assert replicas[0].told == replicas[1].told == replicas[2].told


async def test_a_secret_that_the_manifests_made_empty_is_filled() -> None:
    api = FakeApi()
    await api.create("/x", b'{"metadata":{"name":"portway-ca","labels":{"a":"b"}}}')
    await Replica(api).look()
    assert api.secret is not None
    assert api.secret["metadata"] == {"name": "portway-ca", "labels": {"a": "b"}, "resourceVersion": "2"}


async def test_one_of_two_replaces_it_when_it_is_time() -> None:
    api = FakeApi()
    first, second = Replica(api), Replica(api)
    await first.look()
    await second.look()
    first.now = second.now = BEGIN + REPLACED_AFTER
    stale = await api.get("")
    renewed = await first.look()
    assert len(renewed) == 2
    # The second had read before the first wrote: it loses the race, reads again and finds nothing left to do.
    real_get, answers = api.get, [stale]

    async def late(path: str) -> bytes:
        return answers.pop() if answers else await real_get(path)

    api.get = late  # type: ignore[method-assign]  # a moment in time cannot be had otherwise
    assert await second.look() == renewed
    assert api.writes == 2


async def test_a_secret_that_vanishes_is_put_back_as_it_was() -> None:
    api = FakeApi()
    replica = Replica(api)
    before = await replica.look()
    api.secret = None
    assert await replica.look() == before
    assert len(replica.told) == 1
    other = Replica(api)
    assert await other.look() == before


async def test_a_secret_that_is_gone_is_filled_as_soon_as_there_is_one_again() -> None:
    """With the rights that our manifests give."""
    api = FakeApi()
    replica = Replica(api)
    before = await replica.look()
    api.secret, api.may_create = None, False
    with pytest.raises(CertificateProblem, match=r"portway-ca does not exist, and .* apply the manifests again"):
        await replica.look()
    api.secret = {"metadata": {"name": "portway-ca", "resourceVersion": str(api.version)}}
    assert await replica.look() == before
    assert await Replica(api).look() == before


@pytest.mark.parametrize("is_there", [False, True], ids=["deleted", "damaged"])
async def test_who_knows_what_was_lost_has_the_first_turn(is_there: bool) -> None:
    """A replica that started meanwhile would make new ones, which no proxy believes yet."""
    api = FakeApi()
    old, new = Replica(api), Replica(api)
    before = await old.look()
    kept, api.may_create = {"metadata": {"name": "portway-ca", "resourceVersion": str(api.version)}}, False
    api.secret = {**kept, "data": {"authority-1.crt": "eA=="}} if is_there else None
    for replica in (new, old):
        with pytest.raises(CertificateProblem):
            await replica.look()
    api.secret = dict(kept)
    with pytest.raises(CertificateProblem, match="first turn"):
        await new.look()
    assert await old.look() == before
    assert await new.look() == before


async def test_what_nobody_knows_any_more_is_made_anew() -> None:
    api = FakeApi()
    api.may_create = False
    replica = Replica(api)
    with pytest.raises(CertificateProblem, match="does not exist"):
        await replica.look()
    api.secret = {"metadata": {"name": "portway-ca", "resourceVersion": "0"}}
    with pytest.raises(CertificateProblem, match="first turn"):
        await replica.look()
    assert len(await replica.look()) == 1


async def test_what_is_damaged_is_told_and_not_overwritten() -> None:
    api = FakeApi()
    replica = Replica(api)
    await replica.look()
    assert api.secret is not None
    data = api.secret["data"]
    assert isinstance(data, dict)
    data["authority-20260101T000000Z.key"] = base64.b64encode(b"nonsense").decode()
    with pytest.raises(CertificateProblem, match="Secret portway/portway-ca: authority-20260101T000000Z"):
        await replica.look()
    assert api.writes == 1


async def test_without_an_api_server_what_is_known_stays() -> None:
    api = FakeApi()
    replica = Replica(api)
    await replica.look()
    api.down = True
    with pytest.raises(ApiUnreachable):
        await replica.look()
    assert len(replica.told) == 1
