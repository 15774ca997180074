"""The file source against real folders and the real inotify."""

import asyncio
import io
import os
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portway.objects.verdict import ObjectKey, Severity
from portway.sources import reading as reading_module
from portway.sources.files import FileSource
from portway.sources.settling import GRACE
from portway.store import Finding, Store
from tests.sources.suite import port_of, reading, service_key


def service(name: str, port: int = 80, namespace: str = "shop") -> str:
    return f"""\
apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: {namespace}
spec:
  ports:
  - name: http
    port: {port}
"""


def services(store: Store) -> dict[str, int | None]:
    return {key.name: port_of(store, key) for key in sorted(store.keys("Service"))}


def places(findings: Sequence[Finding], folder: Path) -> list[tuple[str, int, str]]:
    return [(os.path.relpath(found.file, folder), found.line, found.verdict.reason) for found in findings]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "conf"
    path.mkdir()
    return path


def source(*paths: Path | str, **options: object) -> FileSource:
    return FileSource([str(path) for path in paths], **options)  # type: ignore[arg-type]  # passed through


JSON = (
    '{"apiVersion":"v1","kind":"Service","metadata":{"name":"NAME","namespace":"shop"},"spec":{"ports":[{"port":80}]}}'
)
FLOW = "{apiVersion: v1, kind: Service, metadata: {name: NAME, namespace: shop}, spec: {ports: [{port: 80}]}}"
ITEM = "{metadata: {name: NAME, namespace: shop}, spec: {ports: [{port: 80}]}}"


def twice(text: str, between: str) -> str:
    """The same for `a` and `b`."""
    return between.join(text.replace("NAME", name) for name in "ab")


BLOCK = service("NAME")
FORMATS = {
    "documents.yaml": twice(BLOCK, "---\n"),
    "empty-documents.yml": "# nothing\n---\n---\n" + twice(BLOCK, "---\n# end\n---\n") + "---\n",
    "windows.yaml": "\ufeff" + twice(BLOCK, "---\n").replace("\n", "\r\n"),
    "list.yaml": "apiVersion: v1\nkind: List\nitems:\n- " + twice(BLOCK.rstrip().replace("\n", "\n  "), "\n- "),
    "typed-list.yaml": "apiVersion: v1\nkind: ServiceList\nitems:\n- " + twice(ITEM, "\n- "),
    "one.json": '{"apiVersion": "v1", "kind": "List", "items": [' + twice(JSON, ",\n\t") + "]}",
    "stream.json": twice(JSON, "\n"),
    "flow.yaml": "{apiVersion: v1, kind: List, items: [" + twice(FLOW, ",") + "]}",
    "json.yaml": twice(JSON, "\n---\n"),
}


@pytest.mark.parametrize("name", FORMATS)
async def test_a_format_is_read(folder: Path, name: str) -> None:
    (folder / name).write_bytes(FORMATS[name].encode())
    async with reading(source(folder)) as reader:
        assert services(reader.store) == {"a": 80, "b": 80}
        assert not reader.store.findings()


async def test_standard_input_is_read_once_and_files_beside_it_are_followed(folder: Path) -> None:
    (folder / "b.yaml").write_text(service("b"))
    async with reading(source("-", folder, stdin=io.BytesIO(service("a").encode()))) as reader:
        assert services(reader.store) == {"a": 80, "b": 80}
        (folder / "b.yaml").write_text(service("b", 81))
        await reader.until(lambda store: services(store) == {"a": 80, "b": 81})


async def test_a_pipe_is_read_once(folder: Path) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, service("a").encode())
    os.close(write_end)
    async with reading(source(f"/dev/fd/{read_end}", follow=False)) as reader:
        assert services(reader.store) == {"a": 80}
    os.close(read_end)


async def test_without_following_it_ends_after_the_load(folder: Path) -> None:
    (folder / "a.yaml").write_text(service("a"))
    seen = [change async for change in source(folder, follow=False).changes()]
    assert [change.synced for change in seen].count(True) == 1
    assert seen[-1].synced


LEFT_ALONE = (
    ".a.yaml",
    "a.yaml~",
    "#a.yaml#",
    ".a.yaml.swp",
    "a.yaml.tmp",
    "a.tmp",
    "4913",
    "README.md",
    ".git/x.yaml",
)


@pytest.mark.parametrize("name", LEFT_ALONE)
async def test_hidden_and_temporary_files_are_left_alone(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(service("x"))
    async with reading(source(folder)) as reader:
        (folder / name).write_text(service("y"))
        (folder / "a.yaml").write_text(service("a"))
        await reader.until(lambda store: bool(services(store)))
        assert services(reader.store) == {"a": 80}


async def test_a_file_named_itself_is_read_whatever_its_name(folder: Path) -> None:
    path = folder / ".manifest.txt"
    path.write_text(service("a"))
    async with reading(source(path)) as reader:
        path.write_text(service("a", 81))
        await reader.until(lambda store: services(store) == {"a": 81})


# How files change


async def test_an_atomic_save_is_followed(folder: Path) -> None:
    path = folder / "a.yaml"
    path.write_text(service("a"))
    async with reading(source(folder)) as reader:
        for port in (81, 82, 83):
            (folder / "a.yaml.tmp").write_text(service("a", port))
            (folder / "a.yaml.tmp").rename(path)
            await reader.until(lambda store, port=port: services(store) == {"a": port})  # type: ignore[misc]


async def test_an_editor_that_moves_the_old_file_away_first_makes_nothing_blink(folder: Path) -> None:
    path = folder / "a.yaml"
    path.write_text(service("a"))
    async with reading(source(folder)) as reader:
        path.rename(folder / "a.yaml~")
        path.write_text(service("a", 81))
        await reader.until(lambda store: services(store) == {"a": 81})
        path.unlink()
        path.write_text(service("a", 82))
        await reader.until(lambda store: services(store) == {"a": 82})
        assert not any(change.removed for change in reader.seen)


async def test_a_file_that_is_being_written_is_not_served_half(folder: Path) -> None:
    """The first half parses: without waiting for the close, `b` would be deleted for a moment."""
    path = folder / "a.yaml"
    path.write_text(service("a") + "---\n" + service("b"))
    async with reading(source(folder)) as reader:
        with path.open("w") as file:
            file.write(service("a", 81))
            file.flush()
            (folder / "other.yaml").write_text(service("other"))
            await reader.until(lambda store: "other" in services(store))
            file.write("---\n" + service("b", 81))
        await reader.until(lambda store: services(store) == {"a": 81, "b": 81, "other": 80})
        assert not any(change.removed for change in reader.seen)


async def test_a_file_that_is_emptied_first_and_filled_then_makes_nothing_blink(folder: Path) -> None:
    path = folder / "a.yaml"
    path.write_text(service("a"))
    async with reading(source(folder)) as reader:
        path.write_text("")
        (folder / "other.yaml").write_text(service("other"))
        await reader.until(lambda store: "other" in services(store))
        path.write_text(service("a", 81))
        await reader.until(lambda store: services(store)["a"] == 81)
        assert not any(change.removed for change in reader.seen)


async def test_a_file_that_stays_empty_declares_nothing(folder: Path) -> None:
    path = folder / "a.yaml"
    path.write_text(service("a"))
    async with reading(source(folder)) as reader:
        path.write_text("")
        await reader.until(lambda store: not services(store))


async def test_a_file_moved_between_folders_keeps_its_objects(folder: Path) -> None:
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    (folder / "one/a.yaml").write_text(service("a"))
    async with reading(source(folder)) as reader:
        (folder / "one/a.yaml").rename(folder / "two/a.yaml")
        change = await reader.step()
        assert not change.removed
        assert not change.findings
        stored = reader.store.get(service_key("a"))
        assert stored is not None
        assert stored.origin.file == str(folder / "two/a.yaml")


async def test_a_renamed_folder_keeps_its_objects(folder: Path) -> None:
    (folder / "one").mkdir()
    for name in "abc":
        (folder / f"one/{name}.yaml").write_text(service(name))
    async with reading(source(folder)) as reader:
        (folder / "one").rename(folder / "two")
        await reader.until(lambda store: origins(store, folder) == {"two/a.yaml", "two/b.yaml", "two/c.yaml"})
        assert not any(change.removed for change in reader.seen)
        # ... and is followed under its new name.
        (folder / "two/a.yaml").write_text(service("a", 81))
        await reader.until(lambda store: services(store)["a"] == 81)


REFUSED = "---\n" + service("refused", 70000)


def rename_file(folder: Path) -> None:
    (folder / "one/a.yaml").rename(folder / "one/b.yaml")


def rename_folder(folder: Path) -> None:
    (folder / "one").rename(folder / "two")


def move_document(folder: Path) -> None:
    """As a checkout does: into a file with an error."""
    (folder / "one/a.yaml").write_text(service("b"))
    (folder / "other.yaml").write_text(service("other") + "---\n" + service("a") + REFUSED)


@pytest.mark.parametrize("change", [rename_file, rename_folder, move_document])
async def test_what_moves_beside_an_error_does_not_blink(folder: Path, change: Callable[[Path], None]) -> None:
    """A file with an error is read twice before it counts; meanwhile its objects are not where they were."""
    (folder / "one").mkdir()
    (folder / "one/a.yaml").write_text(service("a") + "---\n" + service("b") + REFUSED)
    (folder / "other.yaml").write_text(service("other") + REFUSED)
    async with reading(source(folder)) as reader:
        before = origin(reader.store, "a")
        change(folder)
        await reader.until(lambda store: origin(store, "a") not in (None, before))
        assert services(reader.store) == {"a": 80, "b": 80, "other": 80}
        assert {found.verdict.reason for found in reader.store.findings()} == {"Invalid"}
        assert not any(change.removed for change in reader.seen)


async def test_what_was_to_move_into_a_file_that_goes_too_is_deleted(folder: Path) -> None:
    (folder / "a.yaml").write_text(service("a") + REFUSED)
    async with reading(source(folder)) as reader:
        (folder / "a.yaml").rename(folder / "b.yaml")
        await reader.step()
        (folder / "b.yaml").unlink()
        await reader.until(lambda store: not services(store) and not store.keys("Namespace"))


def origin(store: Store, name: str) -> str | None:
    stored = store.get(service_key(name))
    return stored.origin.file if stored else None


def origins(store: Store, folder: Path) -> set[str]:
    found = (store.get(key) for key in store.keys("Service"))
    return {os.path.relpath(stored.origin.file, folder) for stored in found if stored}


async def test_a_new_folder_with_files_and_folders_in_it_is_read(folder: Path, tmp_path: Path) -> None:
    async with reading(source(folder)) as reader:
        deep = folder / "x/y/z"
        deep.mkdir(parents=True)
        (deep / "a.yaml").write_text(service("a"))
        await reader.until(lambda store: services(store) == {"a": 80})
        prepared = tmp_path / "prepared"
        (prepared / "in").mkdir(parents=True)
        (prepared / "in/b.yaml").write_text(service("b"))
        prepared.rename(folder / "prepared")
        await reader.until(lambda store: services(store) == {"a": 80, "b": 80})
        shutil.rmtree(folder / "x")
        await reader.until(lambda store: services(store) == {"b": 80})


def mount(folder: Path, version: str, files: dict[str, str]) -> None:
    """Project files as the kubelet does (its `AtomicWriter`)."""
    data = folder / f"..{version}"
    data.mkdir()
    for name, text in files.items():
        (data / name).write_text(text)
    link = folder / "..data"
    old = link.resolve() if link.is_symlink() else None
    (folder / "..data_tmp").symlink_to(data.name)
    (folder / "..data_tmp").rename(link)
    for name in files:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    for path in folder.iterdir():
        if path.is_symlink() and not path.exists():
            path.unlink()
    if old is not None:
        shutil.rmtree(old)


@pytest.mark.parametrize("named", [False, True], ids=["folder", "file"])
async def test_a_mounted_config_map_is_followed_in_one_change(folder: Path, named: bool) -> None:
    mount(folder, "2026_1", {"a.yaml": service("a"), "b.yaml": service("b")})
    paths = [folder / "a.yaml", folder / "b.yaml"] if named else [folder]
    async with reading(source(*paths)) as reader:
        assert services(reader.store) == {"a": 80, "b": 80}
        for version in (2, 3):
            mount(folder, f"2026_{version}", {"a.yaml": service("a", version), "b.yaml": service("b", version)})
            change = await reader.step()
            assert {stored.key.name for stored in change.changed} == {"a", "b"}
            assert services(reader.store) == {"a": version, "b": version}
        if not named:
            mount(folder, "2026_9", {"b.yaml": service("b", 9), "c.yaml": service("c", 9)})
            await reader.until(lambda store: services(store) == {"b": 9, "c": 9})


async def test_a_linked_folder_that_is_switched_is_followed(folder: Path, tmp_path: Path) -> None:
    for version in (1, 2):
        (tmp_path / f"releases/{version}").mkdir(parents=True)
        (tmp_path / f"releases/{version}/a.yaml").write_text(service("a", version))
    current = tmp_path / "current"
    current.symlink_to("releases/1")
    async with reading(source(current)) as reader:
        assert services(reader.store) == {"a": 1}
        (tmp_path / "next").symlink_to("releases/2")
        (tmp_path / "next").rename(current)
        await reader.until(lambda store: services(store) == {"a": 2})
        (tmp_path / "releases/2/a.yaml").write_text(service("a", 3))
        await reader.until(lambda store: services(store) == {"a": 3})
        assert not any(change.removed for change in reader.seen)


async def test_the_target_of_a_linked_file_is_followed(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere/target.txt"
    target.parent.mkdir()
    target.write_text(service("a"))
    (folder / "a.yaml").symlink_to(target)
    (folder / "loop").symlink_to(folder)
    async with reading(source(folder)) as reader:
        target.write_text(service("a", 81))
        await reader.until(lambda store: services(store) == {"a": 81})


async def test_a_folder_that_appears_later_is_read(tmp_path: Path) -> None:
    late = tmp_path / "not/yet"
    async with reading(source(late)) as reader:
        (finding,) = reader.store.findings()
        assert (finding.verdict.reason, finding.verdict.severity) == ("NotFound", Severity.ERROR)
        late.mkdir(parents=True)
        (late / "a.yaml").write_text(service("a"))
        await reader.until(lambda store: services(store) == {"a": 80})
        assert not reader.store.findings()


async def test_a_given_folder_that_vanishes_keeps_its_objects(folder: Path, tmp_path: Path) -> None:
    """It may be unmounted, or be replaced in a moment; a deletion is one of files in a folder that is there."""
    (folder / "a.yaml").write_text(service("a"))
    state = tmp_path / "state"
    async with reading(source(folder, state_dir=state)) as reader:
        shutil.rmtree(folder)
        await reader.until(lambda store: bool(store.findings()))
        assert services(reader.store) == {"a": 80}
    # ... over a restart too.
    async with reading(source(folder, state_dir=state)) as reader:
        assert services(reader.store) == {"a": 80}
        assert [found.verdict.reason for found in reader.store.findings()] == ["NotFound"]
        folder.mkdir()  # noqa: ASYNC240 - a test; the source waits meanwhile
        (folder / "b.yaml").write_text(service("b"))
        await reader.until(lambda store: services(store) == {"b": 80} and not store.findings())


def move(old: Path, new: Path) -> None:
    old.rename(new)


def link(target: Path, new: Path) -> None:
    new.symlink_to(target)


@pytest.mark.parametrize("given", ["conf", ""])
@pytest.mark.parametrize("linked", [False, True])
async def test_a_given_folder_that_comes_back_is_no_file_that_cannot_be_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, linked: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    away = tmp_path / "away"
    (folder / "a.yaml").write_text(service("a"))
    async with reading(source(given or folder)) as reader:
        move(folder, away)
        await reader.until(lambda store: [found.verdict.reason for found in store.findings()] == ["NotFound"])
        (away / "a.yaml").write_text(service("a", 81))
        (link if linked else move)(away, folder)
        await reader.until(lambda store: services(store) == {"a": 81})
        await asyncio.sleep(2 * GRACE)  # what was taken for a broken file would count by now
        (folder / "b.yaml").write_text(service("b"))
        await reader.until(lambda store: services(store) == {"a": 81, "b": 80})
        assert not reader.store.findings()


async def test_a_deleted_file_that_was_named_itself_loses_its_objects(folder: Path) -> None:
    path = folder / "a.yaml"
    path.write_text(service("a"))
    async with reading(source(path)) as reader:
        path.unlink()
        await reader.until(lambda store: not services(store))
        path.write_text(service("a", 81))
        await reader.until(lambda store: services(store) == {"a": 81} and not store.findings())


async def test_a_deleted_file_deletes_its_objects_and_their_namespace(folder: Path) -> None:
    (folder / "a.yaml").write_text(service("a", namespace="pay"))
    (folder / "b.yaml").write_text(service("b"))
    async with reading(source(folder)) as reader:
        (folder / "a.yaml").unlink()
        await reader.until(lambda store: services(store) == {"b": 80})
        assert {key.name for key in reader.store.keys("Namespace")} == {"shop"}


async def test_a_declared_namespace_takes_the_place_of_the_synthesised_one(folder: Path) -> None:
    (folder / "a.yaml").write_text(service("a"))
    key = ObjectKey("Namespace", "", "shop")

    def labels(store: Store) -> dict[str, str]:
        stored = store.get(key)
        return dict(stored.object.metadata.labels) if stored else {}

    async with reading(source(folder)) as reader:
        assert labels(reader.store) == {"kubernetes.io/metadata.name": "shop"}
        (folder / "ns.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: x}}\n")
        await reader.until(lambda store: labels(store) == {"kubernetes.io/metadata.name": "shop", "team": "x"})
        (folder / "ns.yaml").unlink()
        await reader.until(lambda store: labels(store) == {"kubernetes.io/metadata.name": "shop"})


# What is wrong


async def test_a_broken_file_keeps_its_objects_and_says_where_it_is_broken(folder: Path) -> None:
    path = folder / "a.yaml"
    path.write_text(service("a"))
    async with reading(source(folder)) as reader:
        path.write_text(service("a", 81).replace("  name: a", "  name: 'a"))
        await reader.until(lambda store: bool(store.findings()))
        assert services(reader.store) == {"a": 80}
        assert places(reader.store.findings(), folder) == [("a.yaml", 4, "InvalidYAML")]
        assert "1 object of this file stays in force" in reader.store.findings()[0].verdict.problem
        path.write_text(service("a", 82))
        await reader.until(lambda store: services(store) == {"a": 82})
        assert not reader.store.findings()


async def test_a_broken_document_does_not_take_others_with_it(folder: Path) -> None:
    path = folder / "a.yaml"
    path.write_text("---\n".join(map(service, "abc")))
    async with reading(source(folder)) as reader:
        path.write_text(service("a", 81) + "---\n" + service("b").replace("80", "{") + "---\n" + service("c", 81))
        await reader.until(lambda store: bool(store.findings()))
        assert services(reader.store) == {"a": 81, "b": 80, "c": 81}
        (finding,) = reader.store.findings()
        assert 11 <= finding.line <= 20


async def test_a_refused_object_keeps_its_last_good_version(folder: Path) -> None:
    path = folder / "a.yaml"
    path.write_text(service("a") + "---\n" + service("b"))
    async with reading(source(folder)) as reader:
        path.write_text(service("a", 70000) + "---\n" + service("c"))
        await reader.until(lambda store: bool(store.findings()))
        # `b` was deleted: the refused document says which object it is about, so it is not another one's.
        assert services(reader.store) == {"a": 80, "c": 80}
        (finding,) = reader.store.findings()
        assert finding.verdict.object == service_key("a")
        assert finding.line == 9
        assert "its last good version stays in force" in finding.verdict.problem


@pytest.mark.parametrize("edited", ["running", "stopped"])
async def test_last_good_versions_survive_a_restart(folder: Path, tmp_path: Path, edited: str) -> None:
    state = tmp_path / "state"
    path = folder / "a.yaml"
    path.write_text(service("a") + "---\n" + service("b"))
    broken = service("a", 81) + "---\nspec: {"
    async with reading(source(folder, state_dir=state)) as reader:
        if edited == "running":
            path.write_text(broken)
            await reader.until(lambda store: bool(store.findings()))
    path.write_text(broken)
    for _ in range(2):
        async with reading(source(folder, state_dir=state)) as reader:
            assert services(reader.store) == {"a": 81, "b": 80}
            assert len(reader.store.findings()) == 1
    path.write_text(service("a", 82))
    async with reading(source(folder, state_dir=state)) as reader:
        assert services(reader.store) == {"a": 82}
    path.write_text("spec: {")
    async with reading(source(folder, state_dir=state)) as reader:
        assert services(reader.store) == {"a": 82}


def unmount(folder: Path, away: Path) -> None:
    folder.rename(away)
    folder.mkdir()


def mount_again(away: Path, folder: Path) -> None:
    folder.rmdir()
    away.rename(folder)


async def test_an_empty_folder_in_the_place_of_another_is_not_believed_after_a_restart(
    folder: Path, tmp_path: Path
) -> None:
    """The mount is missing, and the folder that it hides is empty."""
    state = tmp_path / "state"
    (folder / "a.yaml").write_text(service("a"))
    async with reading(source(folder, state_dir=state)) as reader:
        assert services(reader.store) == {"a": 80}
    mounted = tmp_path / "mounted"
    unmount(folder, mounted)
    for _ in range(2):
        async with reading(source(folder, state_dir=state)) as reader:
            assert services(reader.store) == {"a": 80}
            (finding,) = reader.store.findings()
            assert finding.verdict.reason == "FolderReplaced"
    async with reading(source(folder, state_dir=state)) as reader:
        mount_again(mounted, folder)
        (folder / "a.yaml").write_text(service("a", 81))
        await reader.until(lambda store: services(store) == {"a": 81} and not store.findings())
    # Emptied while nobody looked, but the same folder: that is what was wanted.
    (folder / "a.yaml").unlink()
    async with reading(source(folder, state_dir=state)) as reader:
        assert services(reader.store) == {}
        assert not reader.store.findings()


async def test_the_state_is_for_its_owner_only_and_may_be_damaged(folder: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    (folder / "a.yaml").write_text(service("a"))
    async with reading(source(folder, state_dir=state)):
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in state.iterdir()} == {0o600}
    (database,) = state.glob("*.sqlite")
    database.write_bytes(b"rubbish" * 1000)
    async with reading(source(folder, state_dir=state)) as reader:
        assert services(reader.store) == {"a": 80}
        assert not reader.store.findings()


async def test_a_state_folder_that_cannot_be_made_is_a_warning(folder: Path) -> None:
    (folder / "a.yaml").write_text(service("a"))
    async with reading(source(folder, state_dir=folder / "a.yaml/state")) as reader:
        assert services(reader.store) == {"a": 80}
        (finding,) = reader.store.findings()
        assert finding.verdict.severity is Severity.WARNING


async def test_the_first_declaration_by_path_is_served_and_the_other_reported(folder: Path) -> None:
    (folder / "b.yaml").write_text(service("a", 82) + "---\n" + service("a", 83))
    async with reading(source(folder)) as reader:
        assert services(reader.store) == {"a": 82}
        assert places(reader.store.findings(), folder) == [("b.yaml", 11, "Duplicate")]
        (folder / "a.yaml").write_text(service("a", 81))
        await reader.until(lambda store: services(store) == {"a": 81})
        assert places(reader.store.findings(), folder) == [("b.yaml", 1, "Duplicate"), ("b.yaml", 11, "Duplicate")]
        assert f"{folder}/a.yaml:1 comes first" in reader.store.findings()[0].verdict.problem
        (folder / "a.yaml").unlink()
        await reader.until(lambda store: services(store) == {"a": 82})
        (folder / "b.yaml").write_text(service("a", 82))
        await reader.until(lambda store: not store.findings())


BAD_FILES = {
    "no-utf8.yaml": (b"a: 1\nb: \xff\n", 2, "InvalidEncoding"),
    "nul.yaml": (b"a: \x00\n", 1, "InvalidYAML"),
    "list.yaml": (b"- 1\n- 2\n", 1, "Invalid"),
    "bad.json": (b'{"a": 1,\n "b": }', 2, "InvalidJSON"),
    "twice.json": (b'{"a": 1,\n "a": 2}', 2, "InvalidJSON"),
    "nan.json": (b'{"a": NaN}', 1, "InvalidJSON"),
}


@pytest.mark.parametrize("name", BAD_FILES)
async def test_a_bad_file_is_a_finding(folder: Path, name: str) -> None:
    data, line, reason = BAD_FILES[name]
    (folder / name).write_bytes(data)
    (folder / "a.yaml").write_text(service("a"))
    async with reading(source(folder)) as reader:
        assert services(reader.store) == {"a": 80}
        assert places(reader.store.findings(), folder) == [(name, line, reason)]
        assert reader.store.findings()[0].verdict.severity is Severity.ERROR


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
async def test_a_file_that_may_not_be_read_is_a_finding(folder: Path) -> None:
    path = folder / "a.yaml"
    path.write_text(service("a"))
    async with reading(source(folder)) as reader:
        path.chmod(0)
        path.rename(folder / "b.yaml")
        await reader.until(lambda store: bool(store.findings()))
        (folder / "b.yaml").chmod(0o600)
        await reader.until(lambda store: not store.findings())


async def test_a_file_above_the_bound_is_a_finding_and_keeps_its_objects(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "a.yaml"
    path.write_text(service("a"))
    monkeypatch.setattr(reading_module, "MAX_FILE_BYTES", 1_000)
    async with reading(source(folder)) as reader:
        path.write_text(service("a", 81) + "#" * 2_000)
        await reader.until(lambda store: bool(store.findings()))
        assert services(reader.store) == {"a": 80}
        assert places(reader.store.findings(), folder) == [("a.yaml", 0, "TooLarge")]


async def test_a_warning_names_file_line_and_field(folder: Path) -> None:
    (folder / "a.yaml").write_text(
        service("a") + "---\n" + service("b").replace("    port: 80", "    prot: 80\n    port: 80")
    )
    async with reading(source(folder)) as reader:
        (finding,) = reader.store.findings()
        assert finding.verdict.severity is Severity.WARNING
        assert (finding.line, finding.verdict.field) == (19, "spec.ports[0].prot")


# Lines, cost


IN_A_LIST = """\
kind: List
apiVersion: v1
items:
- {apiVersion: v1, kind: Service, metadata: {name: c, namespace: shop}, spec: {ports: [{port: 80}]}}
- {apiVersion: v1, kind: Service, metadata: {name: d, namespace: shop}, spec: {ports: [{port: 80}]}}
"""


async def test_a_field_is_located(folder: Path) -> None:
    path = folder / "a.yaml"
    path.write_text(service("a") + "---\n" + service("b") + "---\n" + IN_A_LIST)
    origin = source(folder)
    async with reading(origin):
        assert origin.locate(service_key("b"), "spec.ports[0].port") == (str(path), 19)
        assert origin.locate(service_key("b"), "spec.ports[0].nodePort") == (str(path), 18)
        assert origin.locate(service_key("b"), "spec.ports[7]") == (str(path), 17)
        assert origin.locate(service_key("b")) == (str(path), 11)
        assert origin.locate(service_key("d"), "spec.ports[0].port") == (str(path), 25)
        assert origin.locate(service_key("nobody")) is None


async def test_only_changed_documents_are_parsed_again(folder: Path) -> None:
    path = folder / "a.yaml"
    names = [f"s{number:04}" for number in range(3000)]  # more than `LARGE_FILE`
    path.write_text("---\n".join(map(service, names)))
    origin = source(folder)
    async with reading(origin) as reader:
        assert origin.statistics().documents_parsed == 3000
        path.write_text("---\n".join(service(name, 81 if name == "s1500" else 80) for name in names))
        change = await reader.step()
        assert [stored.key.name for stored in change.changed] == ["s1500"]
        assert origin.statistics().documents_parsed == 3001
        # A document more: those behind it move to other lines, later.
        path.write_text("---\n".join(map(service, [*names[:10], "new", *names[10:]])))
        change = await reader.step()
        assert {stored.key.name for stored in change.changed} == {"new", "s1500"}
        await reader.until(lambda store: line_of(store, "s2999") == 1 + 10 * 3000)
        assert origin.statistics().documents_parsed <= 3001 + 1500
        assert services(reader.store) == dict.fromkeys([*names, "new"], 80)


def line_of(store: Store, name: str) -> int:
    stored = store.get(service_key(name))
    return stored.origin.line if stored else 0


async def test_a_touched_file_reports_nothing(folder: Path) -> None:
    (folder / "a.yaml").write_text(service("a"))
    async with reading(source(folder)) as reader:
        (folder / "a.yaml").touch()
        (folder / "a.yaml").write_text(service("a"))
        (folder / "b.yaml").write_text(service("b"))
        change = await reader.step()
        assert {stored.key.name for stored in change.changed} == {"b"}


@given(data=st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode(errors="surrogatepass")))
@settings(deadline=None)
async def test_no_bytes_harm_the_source(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "a.yaml").write_text(service("a"))
    for name in ("x.yaml", "x.json"):
        (folder / name).write_bytes(data)
    async with reading(source(folder, follow=False)) as reader:
        assert services(reader.store) == {"a": 80}
