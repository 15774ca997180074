"""Host names with wildcards: which covers which, and which is the more specific.

A name is exact (`shop.example`), a wildcard (`*.example`, one or more labels in the place of the star) or `*` for all.
Objects leave a host out where they mean all; here that is always `*`, as in the keys of virtual hosts.

Source: Gateway API, `Listener.hostname`, `HTTPRouteSpec.hostnames`.
"""

from collections.abc import Iterator

EVERY = "*"


def is_wildcard(host: str) -> bool:
    return host.startswith("*")


def covers(wide: str, narrow: str) -> bool:
    """Whether every name of `narrow` is one of `wide`'s; a name covers itself."""
    if wide in (EVERY, narrow):
        return True
    return wide.startswith("*.") and narrow != EVERY and narrow.endswith(wide[1:])


def intersection(one: str, other: str) -> str | None:
    """The names that both have. Two of these patterns either nest or have nothing in common."""
    if covers(one, other):
        return other
    return one if covers(other, one) else None


def wider(host: str) -> Iterator[str]:
    """The patterns that cover `host` and more, the most specific first; the last is `*`."""
    if host == EVERY:
        return
    rest = host.removeprefix("*.")
    while "." in rest:
        rest = rest.partition(".")[2]
        yield f"*.{rest}"
    yield EVERY


def specificity(host: str) -> tuple[int, int]:
    """Sorts the most specific first: exact names, then wildcards, each by length; `*` last."""
    if host == EVERY:
        return (2, 0)
    return (1 if is_wildcard(host) else 0, -len(host))
