"""A bad object never hurts a good one: whatever is declared beside it, a good world is served as if it were alone."""

from hypothesis import given
from hypothesis import strategies as st

from portway.explain.request import make_request
from portway.explain.trace import Outcome, World, explain
from portway.model.resource import Resource, ResourceKey, ResourceType
from tests.fuzz.profiles import LONG, cases
from tests.fuzz.program import Compiled
from tests.fuzz.worlds import Draft, base, drafts, good

pytestmark = LONG

URLS = (
    "http://good.test/",
    "http://good.test/pay",
    "http://good.test/pay/x",
    "https://good.test/",
    "http://secure.good.test/a?b",
    "https://secure.good.test/a?b",
    "http://x.good.test/any",
    "http://x.good.test/other",
    "http://gateway.test:7080/cart/1",
    "http://gateway.test:7080/x",
    "http://other.test:7080/x",
    "https://gateway.test:7443/cart",
)
SHARED = frozenset(
    {
        *(ResourceKey(ResourceType.LISTENER, f"127.0.0.1:{port}") for port in ("80/tcp", "443/tcp", "443/udp")),
        ResourceKey(ResourceType.VIRTUAL_HOST, "ingress/*"),
        # More labels than the wildcard stands for: it answers as the host of all others does.
        ResourceKey(ResourceType.VIRTUAL_HOST, "ingress/*.good.test"),
    }
)
"""What belongs to all Ingresses together."""
ALONE = Compiled(good())


def answers(compiled: Compiled) -> dict[str, tuple[Outcome, ...]]:
    """What happens to requests to the good hosts."""
    world = World(compiled.engine)
    return {url: explain(world, make_request("GET", url)).outcomes for url in URLS}


def served(compiled: Compiled) -> dict[ResourceKey, Resource]:
    """The resources that only the good world has a part in, or should have."""
    return {resource.key: resource for resource in compiled.resources() if resource.key not in SHARED}


ANSWERS, SERVED = answers(ALONE), served(ALONE)


def test_the_good_world_is_served() -> None:
    reached = {url: {each.upstream.name for each in outcomes if each.upstream} for url, outcomes in ANSWERS.items()}
    assert reached["http://good.test/"] == {"cart"}
    assert reached["https://gateway.test:7443/cart"] == {"cart"}
    assert [each.status for each in ANSWERS["http://secure.good.test/a?b"]] == [308]
    assert [str(verdict) for report in ALONE.reports().values() for verdict in report.verdicts] == []


@cases(150)
@given(st.lists(drafts(), min_size=1, max_size=6), st.booleans())
def test_neighbours_change_nothing(added: list[Draft], on_base: bool) -> None:
    compiled = Compiled((*(base() if on_base else ()), *good()))
    compiled.put({each.stored.key: each.stored for each in added}.values())
    found = served(compiled)
    assert {key: found.get(key) for key in SERVED} == SERVED
    assert answers(compiled) == ANSWERS
    for key, report in ALONE.reports().items():
        assert compiled.reports()[key] == report
