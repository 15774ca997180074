"""What holds for every test, and the switch that writes the outcomes of golden cases instead of comparing them."""

import asyncio

import pytest

# Before the first async test pytest-asyncio asks for the current event loop, to put it back later. On Python 3.11 that
# question makes a loop that nobody closes, and the ResourceWarning at its end, an error here, hits some later test.
# After this the answer is that there is none.
asyncio.set_event_loop(None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="write what came out of the golden cases")


@pytest.fixture
def accept(request: pytest.FixtureRequest) -> bool:
    """Whether to write outcomes."""
    return bool(request.config.getoption("--accept", default=False))
