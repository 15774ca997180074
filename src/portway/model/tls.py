"""Key material on its way to the proxies."""

from datetime import datetime

import msgspec

from portway.objects.verdict import ObjectKey


class PrivateKey(msgspec.Struct, frozen=True, gc=False):
    """PEM of a private key. Its `repr` tells nothing."""

    pem: bytes

    def __repr__(self) -> str:
        return f"<redacted, {len(self.pem):,} bytes>"


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate with its key, or authorities (then `key` is `None`)."""

    certificates: bytes
    """PEM; for a certificate the chain, leaf first."""
    key: PrivateKey | None = None
    names: tuple[str, ...] = ()
    """DNS names that the leaf covers, lower case, sorted."""
    not_after: datetime | None = None
    origins: tuple[ObjectKey, ...] = ()
    is_unread: bool = False
    """It stands for one that could not be read: names and end are not known, the bytes are no one's."""
