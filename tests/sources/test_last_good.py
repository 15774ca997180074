"""What is kept of files, on a disk that fills up."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portway.sources.contents import FileReading
from portway.sources.last_good import SAVE_AGAIN, SAVE_PAUSE, Keeper
from portway.sources.records import EMPTY

OBJECT = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: a}\ndata: {text: %s}\n"


def keep(keeper: Keeper, file: str, name: str, now: float = 0.0) -> None:
    """As the source does after reading a file with one object."""
    text = OBJECT % (name, "x" * 20_000)
    reading = FileReading(file, text.encode(), EMPTY, keeper.texts_of(file))
    reading.finish()
    keeper.keep(file, reading.result(), reading.texts, now)


@contextmanager
def full_disk() -> Iterator[None]:
    """Writes of this process fail, as no file may grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def kept(folder: Path, *files: str) -> list[str]:
    """Names of the objects that a later start would find."""
    with Keeper(folder) as keeper:
        texts = [text for file in files for text in keeper.texts_of(file)()]
    return sorted(text.partition("{name: ")[2].partition(",")[0] for text in texts)


def test_what_a_full_disk_did_not_take_is_written_later(tmp_path: Path) -> None:
    with Keeper(tmp_path) as keeper:
        keep(keeper, "a.yaml", "first")
        assert keeper.delay(0.0) == SAVE_PAUSE
        with full_disk():
            keeper.save()
            assert "last good versions cannot be written" in keeper.failure
            # Tried again after a while, whatever happens meanwhile.
            assert keeper.delay(100.0) == SAVE_AGAIN
            keep(keeper, "b.yaml", "second", 104.0)
            assert keeper.delay(104.0) == SAVE_AGAIN - 4
            failure = keeper.failure
            keeper.save()
            assert keeper.failure == failure, "said once"
        keeper.save()
        assert keeper.failure == ""
        assert keeper.delay(200.0) is None
    assert kept(tmp_path, "a.yaml", "b.yaml") == ["first", "second"]


def test_a_disk_that_stays_full_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    with Keeper(tmp_path) as keeper:
        keep(keeper, "a.yaml", "first")
        keeper.save()
        with full_disk():
            keeper.forget("a.yaml", 0.0)
            keeper.__exit__()
    assert kept(tmp_path, "a.yaml") == ["first"]
