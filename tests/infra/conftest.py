"""Set-up of this folder's tests."""

import asyncio
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def main_loop() -> Iterator[None]:
    """An event loop that pytest-asyncio finds and puts back. If there is none it makes one, which nobody closes."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()
