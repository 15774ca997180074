"""What holds for every test, and the switch that writes the outcomes of golden cases instead of comparing them."""

import asyncio

import pytest

# Before the first async test pytest-asyncio asks for the current event loop, to put it back later. On Python 3.11 that
# question makes a loop that nobody closes, and the ResourceWarning at its end, an error here, hits some later test.
# After this the answer is that there is none.
asyncio.set_event_loop(None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="write what came out of the golden cases")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what cluster tests need before the first of them: in a test it would run into the time limit."""
    wanted = any(item.get_closest_marker("cluster") for item in session.items)
    if wanted and not session.config.getoption("collectonly"):
        from tests.cluster import binaries, programs

        for module in (binaries.kube(), programs.ECHO):
            binaries.build(module)


@pytest.fixture
def accept(request: pytest.FixtureRequest) -> bool:
    """Whether to write outcomes."""
    return bool(request.config.getoption("--accept", default=False))
