"""Which folders are watched by which watches."""

from portway.sources.watches import Watches

BELOW = {
    # lost: the paths that go with it
    "/": {"/", "/a", "/a/b", "/a/b/c", "/a-b", "/ab"},
    "/a": {"/a", "/a/b", "/a/b/c"},  # and no prefix by accident: "-" sorts before "/", "b" after it
    "/a/b": {"/a/b", "/a/b/c"},
    "/x": set[str](),
}


def test_what_is_below_a_lost_folder_is_lost() -> None:
    for lost, paths in BELOW.items():
        watches = Watches()
        numbers = {path: number for number, path in enumerate(sorted(BELOW["/"]))}
        for path, number in numbers.items():
            watches.add(path, number)
        gone, unused = watches.lose(lost)
        assert gone == paths
        assert {path for path, number in numbers.items() if not watches.folders(number)} == paths
        assert sorted(unused) == sorted(numbers[path] for path in paths)


def test_relative_paths() -> None:
    watches = Watches()
    for number, path in enumerate((".", "./a", "./a/b", "../c")):
        watches.add(path, number)
    assert watches.lose("./a")[0] == {"./a", "./a/b"}
    assert watches.lose(".")[0] == {"."}
    assert watches.folders(3) == ("../c",)


def test_a_watch_of_two_paths_is_used_until_both_are_lost() -> None:
    watches = Watches()
    watches.add("/real", 1)
    watches.add("/link", 1)
    assert watches.lose("/link") == ({"/link"}, [])
    assert watches.folders(1) == ("/real",)
    assert watches.lose("/real") == ({"/real"}, [1])


def test_the_old_watch_of_a_replaced_folder_ends_alone() -> None:
    watches = Watches()
    watches.add("/a", 1)
    watches.add("/a", 2)
    watches.end(1)
    watches.end(1)
    assert watches.folders(2) == ("/a",)
    watches.end(2)
    assert watches.lose("/") == (set(), [])
