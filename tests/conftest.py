"""What holds for every test."""

import asyncio

# Before the first async test pytest-asyncio asks for the current event loop, to put it back later. On Python 3.11 that
# question makes a loop that nobody closes, and the ResourceWarning at its end, an error here, hits some later test.
# After this the answer is that there is none.
asyncio.set_event_loop(None)
