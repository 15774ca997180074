"""Which paths an event is about."""

import os
from pathlib import Path

import pytest

from portway.sources.inotify import FileEvent, Mask
from portway.sources.links import LinkTrail, follow_links
from portway.sources.tree import FileTree, Place, group_by_path, is_below


async def test_after_an_overflow_everything_is_looked_at(tmp_path: Path) -> None:
    """The kernel drops events when its queue is full (`fs.inotify.max_queued_events`)."""
    tree = FileTree([str(tmp_path), "-"], None)
    assert list(tree.places(FileEvent(-1, Mask.OVERFLOW, 0, ""))) == [Place(str(tmp_path), rescan=True)]


def test_a_path_inside_another_given_one_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / ".hidden").mkdir()
    paths = [tmp_path, tmp_path / "in", tmp_path / "in/x.yaml", tmp_path / ".hidden", tmp_path / "odd.txt"]
    tree = FileTree([str(path) for path in paths], None)
    assert tree.roots() == (str(tmp_path), str(tmp_path / ".hidden"), str(tmp_path / "odd.txt"))


IS_BELOW = {
    ("a/b", "a"): True,
    ("a", "a"): False,
    ("ab", "a"): False,  # no prefix by accident
    ("/a", "/"): True,
    ("a/b", "."): True,
    ("/a", "."): False,
    ("../a", "."): False,
}


@pytest.mark.parametrize(("path", "folder"), IS_BELOW)
def test_is_below(path: str, folder: str) -> None:
    assert is_below(path, folder) is IS_BELOW[path, folder]


GROUPS = {
    # paths: the files at or below each
    ("/c",): {"/c": ["/c/a.yaml", "/c/d/b.yaml"]},
    ("/c", "/c/d"): {"/c": ["/c/a.yaml", "/c/d/b.yaml"], "/c/d": ["/c/d/b.yaml"]},
    ("/c/d/b.yaml", "/no"): {"/c/d/b.yaml": ["/c/d/b.yaml"], "/no": []},
    ("/",): {"/": ["/c/a.yaml", "/c/d/b.yaml", "/c-d/c.yaml"]},
    (".",): {".": ["./a.yaml", "./c/a.yaml"]},
}


@pytest.mark.parametrize("paths", GROUPS)
def test_files_are_grouped_by_path(paths: tuple[str, ...]) -> None:
    files = ["/c/a.yaml", "/c/d/b.yaml", "/c-d/c.yaml", "./a.yaml", "./c/a.yaml", "../c/a.yaml"]
    assert group_by_path(files, paths) == GROUPS[paths]


TOPMOST: dict[str, tuple[dict[str, bool], dict[str, bool]]] = {
    # name: paths to look at and whether they are whole, those that are enough
    "side by side": ({"c/a": True, "c/b": False}, {"c/a": True, "c/b": False}),
    "one in another": ({"c/a/b": True, "c/a": True}, {"c/a": True}),
    "far below": ({"c/a/b/d": True, "c": False}, {"c": False}),
    "not all of it is whole": ({"c/a": True, "c/a/b": False}, {"c/a": False}),
    "no prefix by accident": ({"c/ab": True, "c/a": True}, {"c/ab": True, "c/a": True}),
    "a hidden folder is not reached": ({"c": False, "c/.h": False, "c/.h/x": False}, {"c": False, "c/.h": False}),
    "nothing is above a given path": ({"c": False, ".": False}, {"c": False, ".": False}),
}


@pytest.mark.parametrize("case", TOPMOST)
def test_what_another_look_reaches_is_left_out(case: str) -> None:
    paths, topmost = TOPMOST[case]
    assert FileTree(["c", "c/.h"], None).topmost(paths) == topmost


def test_links_on_the_way_are_found(tmp_path: Path) -> None:
    (tmp_path / "real/deep").mkdir(parents=True)
    (tmp_path / "real/deep/file").touch()
    (tmp_path / "one").symlink_to("real")
    (tmp_path / "two").symlink_to(tmp_path / "one/../one/deep")
    steps, real = follow_links(str(tmp_path / "two/file"))
    base = os.path.realpath(tmp_path)
    assert steps == (f"{base}/two", f"{base}/one", f"{base}/one")
    assert real == f"{base}/real/deep/file"
    missing, nothing = follow_links(str(tmp_path / "two/nowhere/file"))
    assert missing[-1] == f"{base}/real/deep/nowhere"
    assert nothing is None


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert follow_links(str(tmp_path / "a"))[1] is None


def test_a_trail_forgets_what_it_led_over() -> None:
    trail = LinkTrail()
    trail.set("x", ["/a/l", "/b/m"])
    trail.set("y", ["/a/l"])
    assert set(trail.dependents("/a/l")) == {"x", "y"}
    trail.set("x", ["/b/m"])
    assert trail.dependents("/a/l") == ("y",)
    assert trail.below("/b") == ("x",)
