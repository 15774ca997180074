"""Where two versions of a file differ, so that one changed document in a large file costs little more than itself."""

from typing import Final

_BLOCK: Final = 64 * 1024
"""Compared at a time: a slice is a copy, and this one fits the processor's cache."""


def common_prefix(old: bytes, new: bytes) -> int:
    """Number of bytes at the beginning that are equal."""
    limit = min(len(old), len(new))
    start = 0
    while start < limit and old[start : start + _BLOCK] == new[start : start + _BLOCK]:
        start += _BLOCK
    if start >= limit:
        return limit
    low, high = start, min(start + _BLOCK, limit)
    while low < high:  # the first `low` bytes are equal, the first `high` + 1 are not
        middle = (low + high + 1) // 2
        if old[low:middle] == new[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def common_suffix(old: bytes, new: bytes, limit: int) -> int:
    """Number of bytes at the end that are equal, at most `limit`."""
    limit = min(limit, len(old), len(new))
    length = 0
    while length + _BLOCK <= limit and _ends_equal(old, new, length, length + _BLOCK):
        length += _BLOCK
    low, high = length, min(length + _BLOCK, limit)
    while low < high:
        middle = (low + high + 1) // 2
        if _ends_equal(old, new, low, middle):
            low = middle
        else:
            high = middle - 1
    return low


def _ends_equal(old: bytes, new: bytes, start: int, stop: int) -> bool:
    """Are the bytes from `stop` to `start` before the end equal?"""
    return old[len(old) - stop : len(old) - start] == new[len(new) - stop : len(new) - start]
