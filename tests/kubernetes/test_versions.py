"""What is news, against a model: whatever comes, in whatever order, the consumer ends with what the server has."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from portway.kubernetes.versions import NOTHING, Name, Versions, number_of

A, B, C = (Name("shop", name) for name in "abc")


def after_list(*names: Name, version: int = 10) -> Versions:
    versions = Versions()
    versions.begin_list()
    for name in names:
        versions.listed(name, version)
    versions.end_list()
    return versions


def test_a_list_reports_what_has_vanished() -> None:
    versions = after_list(A, B, C)
    versions.begin_list()
    assert [versions.listed(A, 10), versions.listed(B, 11)] == [False, True]
    assert versions.end_list() == [C]
    assert set(versions.known) == {A, B}


def test_a_list_is_believed_when_it_is_older() -> None:
    versions = after_list(A, version=10)
    versions.begin_list()
    assert versions.listed(A, 5), "an etcd from a backup"
    versions.end_list()
    assert versions.changed(A, 6)


def test_a_list_that_broke_off_deletes_nothing() -> None:
    versions = after_list(A, B)
    versions.begin_list()
    versions.listed(A, 10)
    versions.begin_list()
    versions.listed(A, 10)
    versions.listed(B, 10)
    assert versions.end_list() == []


def test_an_object_that_is_deleted_while_a_list_runs_is_reported_once() -> None:
    versions = after_list(A, B)
    versions.begin_list()
    versions.listed(A, 10)
    assert versions.deleted(B, 12)
    assert versions.end_list() == []


def test_repeated_and_late_events_are_no_news() -> None:
    versions = after_list(A)
    assert versions.changed(A, 12)
    assert not versions.changed(A, 12), "repeated"
    assert not versions.changed(A, 11), "out of order"
    assert not versions.deleted(A, 11), "of an object that was there before"
    assert versions.deleted(A, 13)
    assert not versions.deleted(A, 13), "repeated"
    assert not versions.changed(A, 12), "would bring it back"
    assert versions.changed(A, 14), "made again"


def test_versions_that_are_no_numbers_are_always_news() -> None:
    assert number_of("abc") == NOTHING
    versions = after_list(A, version=NOTHING)
    assert versions.changed(A, NOTHING)
    assert versions.deleted(A, NOTHING)


events = st.lists(st.tuples(st.sampled_from([A, B, C]), st.booleans()), max_size=20)


@given(events, st.randoms())
def test_any_repetition_and_order_ends_with_what_the_server_has(
    history: list[tuple[Name, bool]], random: Random
) -> None:
    """Events of a watch come in order; after a fault older ones may come again, at any place."""
    server: dict[Name, int] = {}
    told: list[tuple[Name, int, bool]] = []
    for version, (name, exists) in enumerate(history, start=1):
        if exists:
            server[name] = version
        elif name in server:
            del server[name]
        else:
            continue
        told.append((name, version, exists))
    versions = Versions()
    consumer: dict[Name, int] = {}
    for place, event in enumerate(told):
        earlier = told[: place + 1]
        for name, version, exists in (event, random.choice(earlier), random.choice(earlier)):
            if exists and versions.changed(name, version):
                consumer[name] = version
            elif not exists and versions.deleted(name, version):
                del consumer[name]
    assert consumer == server


def test_the_newest_version_counts_deletions_and_follows_a_restored_history() -> None:
    versions = Versions()
    versions.begin_list()
    versions.listed(Name("a", "x"), 5)
    versions.listed(Name("a", "y"), 7)
    versions.end_list()
    assert versions.newest == 7
    versions.changed(Name("a", "x"), 9)
    versions.deleted(Name("a", "x"), 12)
    assert versions.newest == 12
    versions.begin_list()
    versions.listed(Name("a", "y"), 4)
    versions.end_list()
    assert versions.newest == 4
