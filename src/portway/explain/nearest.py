"""Names that somebody may have meant who asked for one that is not there."""

from collections.abc import Iterable
from difflib import get_close_matches

MOST_NAMES = 3
SCANNED = 20_000
"""Names that are compared at most; the comparison is quadratic in their length."""


def nearest(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """The names that look most like one, the best first; wildcards and what is of another length by far are not
    compared."""
    candidates = [one for one in known if one != "*" and abs(len(one) - len(name)) <= max(4, len(name) // 3)]
    letters = set(name)
    if len(candidates) > SCANNED // 20:
        # Cheap first: what shares few letters is not near.
        candidates.sort(key=lambda one: (-len(letters & set(one)), one))
        del candidates[SCANNED // 20 :]
    return tuple(get_close_matches(name, sorted(candidates), n=MOST_NAMES, cutoff=0.7))
