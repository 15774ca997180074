"""What could not be read of what may be declared: an answer about a cluster says what it does not know.

A control plane asks again until it may read what it needs. A command reads once, often with the rights of a person who
sees one namespace and no Secrets.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from portway.objects.verdict import ObjectKey

NOT_READ: Final = "may not be read with these rights"
"""Stands in every message about such an object, where others say that it does not exist."""


class Unread(msgspec.Struct, frozen=True, kw_only=True):
    """Which objects may be there although nobody reported them."""

    kinds: Mapping[str, frozenset[str]] = {}
    """Kinds that could not be read everywhere, each with the namespaces of which it could."""
    objects: frozenset[ObjectKey] = frozenset()
    """Single ones: Secrets and ConfigMaps that somebody refers to."""

    def covers(self, key: ObjectKey) -> bool:
        """Whether an object that was not reported may be there all the same."""
        return key in self.objects or (key.kind in self.kinds and key.namespace not in self.kinds[key.kind])
