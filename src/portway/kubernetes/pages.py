"""A collection as it stands, page by page."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Final

from portway.kubernetes.errors import ApiUnreachable
from portway.kubernetes.watch_lines import MALFORMED, Page, page_of

PAGE: Final = 500
"""Objects in a page, as client-go has it."""
PAGE_BYTES: Final = 1 << 30
"""Largest page: 500 objects of 1.5 MiB, and something for the fields that the server adds."""

Get = Callable[[str, Mapping[str, str]], Awaitable[bytes]]
"""Asks for a path with parameters."""


async def pages(get: Get, path: str, params: Mapping[str, str], *, size: int) -> AsyncGenerator[Page, None]:
    """Every page of a collection.

    Args:
        params: selectors.
        size: objects in a page.

    Raises:
        ApiError, ApiUnreachable: also in the middle, such as 410 when a listing takes too long.
    """
    token = ""
    while True:
        data = await get(path, {**params, "limit": str(size), **({"continue": token} if token else {})})
        try:
            page = page_of(data)
        except MALFORMED as error:
            raise ApiUnreachable(f"{path}: an answer that cannot be read: {error}") from None
        yield page
        token = page.metadata.continue_
        if not token:
            return
