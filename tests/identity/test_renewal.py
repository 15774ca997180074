"""When a proxy's certificate is renewed. Time is fake: days pass in milliseconds."""

import asyncio
import datetime as dt
from pathlib import Path

import pytest

from portway.identity.authorities import Authority, bundle, make_authority
from portway.identity.certificates import Credentials, Subject, make_credentials, make_key, sign
from portway.identity.messages import Place
from portway.identity.obtain import NotObtained, Obtained, Source
from portway.identity.renewal import TokenIdentity

BEGIN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
HOUR = 3600.0
DAY = dt.timedelta(days=1)


class Pod:
    """An identity, its files, and the control plane that it asks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = make_authority(BEGIN)
        self.asked: list[float] = []
        """Hours since the begin."""
        self.published: list[Credentials] = []
        self.problem: NotObtained | None = None
        self.ahead = dt.timedelta(0)
        """Of us: the control plane's clock."""
        self.believe(self.authority)
        source = Source(addresses=("x:1",), fleet="f", token_file=folder / "token", authorities_file=folder / "ca.crt")
        self.identity = TokenIdentity(
            source,
            folder / "kept",
            self._keep,
            self.published.append,
            ask=self._ask,
            clock=self.now,
            chance=lambda: 0.5,
        )

    def _keep(self, content: bytes) -> None:
        (self.folder / "kept").write_bytes(content)

    def now(self) -> dt.datetime:
        return BEGIN + dt.timedelta(seconds=asyncio.get_running_loop().time())

    def believe(self, *authorities: Authority) -> None:
        (self.folder / "ca.crt").write_bytes(bundle(authorities))

    async def _ask(self, source: Source) -> Obtained:
        self.asked.append(round(asyncio.get_running_loop().time() / HOUR, 2))
        if self.problem is not None:
            raise self.problem
        key = make_key()
        signed = (self.authority.certificate, self.authority.key)
        subject = Subject(common_name="x", uri="spiffe://x/ns/a/sa/b", client=True)
        certificate, _ = sign(subject, key, signed, now=self.now() + self.ahead, lifetime=DAY)
        credentials = make_credentials(certificate, key, source.authorities_file.read_bytes())
        return Obtained(credentials=credentials, place=Place(zone="z"))


async def passing(identity: TokenIdentity, hours: float) -> None:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(identity.run())
        await asyncio.sleep(hours * HOUR)
        running.cancel()


@pytest.mark.looptime
async def test_renewed_at_about_two_thirds_of_its_life(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    assert await pod.identity.first() == Place(zone="z")
    await passing(pod.identity, 40)
    # 2/3 less half of a tenth of 24 h is 14.8 h.
    assert pod.asked == [0.0, 14.8, 29.6]
    assert len(pod.published) == 3


@pytest.mark.looptime
async def test_while_it_cannot_be_renewed_the_old_one_stays_and_it_is_tried_again(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    await pod.identity.first()
    pod.problem = NotObtained("no control plane answers")
    await passing(pod.identity, 15)
    tries = len(pod.asked) - 1
    assert 20 < tries < 60, "every half minute at last"
    assert len(pod.published) == 1
    pod.problem = None
    await passing(pod.identity, 0.1)
    assert len(pod.published) == 2


@pytest.mark.looptime
async def test_it_comes_again_when_it_was_told_to(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    pod.problem = NotObtained("too many", retry_after=7200)
    waiting = asyncio.ensure_future(pod.identity.first())  # noqa: TID251 - beside
    await asyncio.sleep(3 * HOUR)
    assert pod.asked == [0.0, 2.0]
    pod.problem = None
    assert await waiting == Place(zone="z")


@pytest.mark.looptime
async def test_a_successor_of_the_authority_is_believed_at_once_and_costs_nothing(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    await pod.identity.first()
    pod.believe(pod.authority, make_authority(BEGIN + DAY))
    await passing(pod.identity, 1)
    assert pod.asked == [0.0]
    assert [one.authorities.count(b"BEGIN") for one in pod.published] == [1, 2]
    assert pod.published[0].certificates == pod.published[1].certificates


@pytest.mark.looptime
async def test_an_authority_that_is_believed_no_longer_means_a_new_certificate_at_once(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    await pod.identity.first()
    pod.authority = make_authority(BEGIN)
    pod.believe(pod.authority)
    await passing(pod.identity, 0.1)
    assert len(pod.asked) == 2
    assert pod.published[-1].authorities == bundle([pod.authority])


@pytest.mark.looptime
async def test_a_certificate_from_the_future_is_replaced_as_soon_as_clocks_agree(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    pod.ahead = 2 * DAY
    await pod.identity.first()
    await passing(pod.identity, 0.5)
    assert 10 < len(pod.asked) <= 31, "once a minute: it may be our clock"
    pod.ahead = dt.timedelta(0)
    await passing(pod.identity, 1)
    assert pod.published[-1].not_before <= pod.now()
    assert pod.asked[-1] < 0.6, "and then it is left alone"


@pytest.mark.looptime
async def test_a_bundle_that_is_damaged_for_a_moment_changes_nothing(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    await pod.identity.first()
    (tmp_path / "ca.crt").write_bytes(b"")
    await passing(pod.identity, 0.1)
    (tmp_path / "ca.crt").unlink()
    await passing(pod.identity, 0.1)
    assert (len(pod.asked), len(pod.published)) == (1, 1)


@pytest.mark.looptime
async def test_the_next_run_goes_on_with_it_and_renews_it_in_time(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    await pod.identity.first()
    await asyncio.sleep(10 * HOUR)
    again = Pod(tmp_path)
    again.authority = pod.authority
    again.believe(pod.authority)
    assert await again.identity.first() == Place(zone="z")
    assert again.asked == []
    await passing(again.identity, 6)
    assert again.asked == [14.8]
