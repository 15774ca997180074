"""The switch that writes outcomes instead of comparing them."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="write what came out of the golden cases")


@pytest.fixture
def accept(request: pytest.FixtureRequest) -> bool:
    """Whether to write outcomes."""
    return bool(request.config.getoption("--accept", default=False))
