"""What owners are told, and what not."""

import msgspec

from portway.model.condition import Condition, ListenerReport, ObjectReport
from portway.objects.verdict import ObjectKey, Severity, Verdict
from portway.status.news import BURST, MOST_AT_ONCE, NOTE_BYTES, OBJECT_BURST, NewsDesk

ROUTE = ObjectKey("HTTPRoute", "shop", "cart")
REFUSED = Condition(type="Programmed", status=False, reason="Invalid", message="a proxy refuses LISTENER l: no")


def wrong(
    *problems: str, key: ObjectKey = ROUTE, severity: Severity = Severity.ERROR, ours: bool = True
) -> ObjectReport:
    return ObjectReport(
        object=key,
        ours=ours,
        verdicts=tuple(
            Verdict(object=key, severity=severity, reason="BackendNotFound", problem=problem, remedy="create it")
            for problem in problems
        ),
    )


def told(desk: NewsDesk, now: float = 0.0) -> list[tuple[str, str]]:
    found = []
    while (news := desk.take(now)) is not None:
        found.append((news.reason, news.note))
    return found


def test_an_error_is_told_when_it_appears_and_when_it_comes_back() -> None:
    desk = NewsDesk()
    found = []
    for report in (wrong("x"), wrong("x"), wrong(), wrong("x")):
        desk.judged(report, "u", 0.0)
        found.append(told(desk))
    assert found == [[("BackendNotFound", "x; create it")], [], [], [("BackendNotFound", "x; create it")]]


def test_what_was_mended_before_somebody_leads_is_not_told() -> None:
    """A replica judges for days before it leads and anybody takes its news."""
    desk = NewsDesk()
    gone = ObjectKey("HTTPRoute", "shop", "gone")
    desk.judged(wrong("x", key=gone), "u1", 0.0)
    desk.forgotten(gone)
    for number in range(1_500):
        key = ObjectKey("HTTPRoute", "shop", f"{number}")
        desk.judged(wrong("x", *map(str, range(number % 9)), key=key), "u2", float(number))
        desk.judged(wrong(key=key), "u2", float(number))
    desk.judged(wrong("x", "y"), "u3", 2_000.0)
    desk.judged(wrong("y", "z"), "u3", 2_001.0)
    assert desk.statistics().waiting == 2
    assert told(desk, 200_000.0) == [("BackendNotFound", "y; create it"), ("BackendNotFound", "z; create it")]
    assert desk.is_idle


def test_what_could_not_be_written_is_tried_again_while_it_is_so() -> None:
    desk = NewsDesk()
    desk.judged(wrong("x", "y"), "u", 0.0)
    news = desk.take(0.0)
    assert news is not None
    desk.again(news)
    assert [note for _, note in told(desk)] == ["x; create it", "y; create it"]
    desk.judged(wrong("y"), "u", 1.0)
    desk.again(news)
    assert told(desk, 1.0) == []


def test_what_is_no_error_or_nobodys_business_is_not_told() -> None:
    desk = NewsDesk()
    desk.judged(wrong("x", severity=Severity.WARNING), "u", 0.0)
    desk.judged(wrong("x", ours=False), "u", 0.0)
    desk.judged(wrong("x"), "", 0.0)
    assert told(desk) == []


def test_a_refusal_is_told_with_its_place() -> None:
    desk = NewsDesk()
    report = ObjectReport(
        object=ObjectKey("Gateway", "shop", "web"), listeners=(ListenerReport(name="http", conditions=(REFUSED,)),)
    )
    desk.judged(report, "u", 0.0)
    assert told(desk) == [("Refused", "listener http: a proxy refuses LISTENER l: no")]


def test_how_many_proxies_refuse_it_is_no_news() -> None:
    """Each answer of a proxy changes the numbers; the fact is the same, and so is the name of its Event."""
    desk = NewsDesk()
    names = []
    for numbers in ("", "0 of 2 proxies hold it; ", "1 of 2 proxies holds it; "):
        refused = msgspec.structs.replace(REFUSED, message=f"{numbers}{REFUSED.message}")
        report = ObjectReport(object=ObjectKey("Gateway", "shop", "web"), conditions=(refused,))
        desk.judged(report, "u", 0.0)
        names += [] if (news := desk.take(0.0)) is None else [news.name]
        restarted = NewsDesk()
        restarted.judged(report, "u", 0.0)
        names += [] if (news := restarted.take(0.0)) is None else [news.name]
    assert (len(names), len(set(names))) == (4, 1)
    stuck = "it got no further with its update: {} of 2 proxies are new, {} are ready; what is there goes on serving"
    for new, ready in ((0, 1), (1, 2)):
        desk.judged(wrong(stuck.format(new, ready)), "u", 1.0)
    assert len(told(desk, 1.0)) == 1
    # Other numbers are facts.
    desk.judged(wrong("port 80 is taken", "port 81 is taken"), "u", 2.0)
    assert len(told(desk, 2.0)) == 2


def test_many_findings_at_once_are_counted() -> None:
    desk = NewsDesk()
    desk.judged(wrong(*map(str, range(100))), "u", 0.0)
    found = told(desk)
    assert len(found) == MOST_AT_ONCE
    assert found[-1] == ("MoreFindings", "96 more findings; its conditions name them")


def test_who_repairs_and_breaks_it_again_and_again_is_told_less_often() -> None:
    desk = NewsDesk()
    found = []
    for number in range(100):
        desk.judged(wrong("x"), "u", number * 0.1)
        found += told(desk, number * 0.1)
        desk.judged(wrong(), "u", number * 0.1)
    assert len(found) == OBJECT_BURST


def test_a_broken_cluster_is_told_slowly() -> None:
    desk = NewsDesk()
    for number in range(2_000):
        desk.judged(wrong("x", key=ObjectKey("HTTPRoute", "shop", str(number))), "u", 0.0)
    assert len(told(desk)) == BURST
    assert len(told(desk, 1.0)) == 10
    assert desk.statistics().left_out == 1_000


def test_a_note_is_cut_in_bytes_between_characters() -> None:
    desk = NewsDesk()
    desk.judged(wrong("é" * 900), "u", 0.0)
    ((_, note),) = told(desk)
    assert len(note.encode()) <= NOTE_BYTES
    assert note.endswith("...")


def test_the_same_news_have_the_same_name() -> None:
    names = set()
    for _ in range(2):
        desk = NewsDesk()
        desk.judged(wrong("x"), "u", 0.0)
        news = desk.take(0.0)
        assert news is not None
        names.add(news.name)
    assert len(names) == 1
    assert names.pop().startswith("cart.")
