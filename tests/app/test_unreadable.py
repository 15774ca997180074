"""When the sources are not to be believed: a path that is not there, never what is wrong inside a file."""

from pathlib import Path

from portway.app.compiler import compile_files
from portway.app.declared import Declared
from portway.settings import Settings


async def reason(*paths: Path) -> str:
    texts = [str(path) for path in paths]
    engine, source = await compile_files(texts, Settings())
    return Declared(files=source, paths=texts).unreadable(engine.store.findings())


async def test_a_path_that_is_not_there_is_a_doubt(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert (await reason(tmp_path, missing)).startswith(f"{missing}: there is no such file or folder; ")


async def test_a_broken_document_of_a_given_file_is_none(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("kind: Ingress\n  metadata: {broken\n")
    assert await reason(broken) == ""
    assert await reason(tmp_path) == ""
