"""Set-up of the source tests."""

import asyncio

# pytest-asyncio asks for the current event loop before it sets its own, and so makes one that nobody closes; the
# warning about it hits whatever test runs when it is collected. With an explicit "none" there is nothing to leak.
asyncio.set_event_loop(None)
