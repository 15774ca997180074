"""Which settings change while Portway runs, and when its file is read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from portway.app import live_settings
from portway.app.live_settings import NEEDS_RESTART, SettingsFile, follow_settings, updated
from portway.settings import Edge, Host, Settings, SettingsError, all_settings

NOW = Settings(edge=Edge(http_port=8080, zone="a"), host=Host(drain_time=timedelta(seconds=5)))


def test_what_is_compiled_takes_effect() -> None:
    wanted = Settings(edge=Edge(http_port=8081, zone="a", hsts=True), host=NOW.host)
    assert updated(NOW, wanted) == (wanted, ("hsts", "http-port"), ())


def test_what_the_process_was_made_from_stays_and_is_named() -> None:
    wanted = Settings(edge=Edge(http_port=8080, zone="b", hsts=True), host=Host(drain_time=timedelta(seconds=9)))
    settings, live, late = updated(NOW, wanted)
    assert (settings.edge.zone, settings.edge.hsts, settings.host) == ("a", True, NOW.host)
    assert (live, late) == (("hsts",), ("drain-time", "zone"))


def test_what_needs_a_restart_are_settings() -> None:
    assert {each.field for each in all_settings() if each.branch == "edge"} >= NEEDS_RESTART


class Followed:
    """A settings file that holds one number, the HTTP port, and what came of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reads = 0
        self.used: list[int] = []

    def read(self) -> Settings:
        self.reads += 1
        try:
            return Settings(edge=Edge(http_port=int(self.path.read_text())))
        except ValueError as error:
            raise SettingsError(str(error)) from error

    async def looks(self, times: int = 5) -> list[int]:
        await asyncio.sleep(live_settings.LOOK.total_seconds() * times)
        return self.used

    @asynccontextmanager
    async def followed(self, port: int) -> AsyncIterator[None]:
        in_force = Settings(edge=Edge(http_port=port))
        following = follow_settings(
            SettingsFile(path=self.path, read=self.read), in_force, lambda edge: self.used.append(edge.http_port)
        )
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(following)
            yield
            task.cancel()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Followed:
    monkeypatch.setattr(live_settings, "LOOK", timedelta(milliseconds=20))
    return Followed(tmp_path / "settings")


async def test_a_change_before_the_first_look_is_not_missed(file: Followed) -> None:
    file.path.write_text("81")
    async with file.followed(80):
        assert await file.looks() == [81]


async def test_an_emptied_file_changes_nothing(file: Followed) -> None:
    file.path.write_text("81")
    async with file.followed(80):
        assert await file.looks() == [81]
        file.path.write_text("")
        assert await file.looks() == [81]
        file.path.write_text("82")
        assert await file.looks() == [81, 82]


async def test_a_file_that_could_not_be_read_is_read_again_when_its_rights_change(file: Followed) -> None:
    file.path.write_text("forbidden")  # as good as forbidden: reading fails, and later works though nothing was written
    async with file.followed(80):
        assert await file.looks() == []
        assert file.reads == 1
        file.path.chmod(0o640)
        await file.looks()
        assert file.reads == 2
