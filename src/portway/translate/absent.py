"""How an object is spoken of that nobody reported: it is not there, or it could not be read."""

from portway.model.handles import UNREAD
from portway.model.unread import NOT_READ
from portway.objects.verdict import ObjectKey
from portway.store import Reads


def is_unread(ctx: Reads, key: ObjectKey) -> bool:
    """Whether an object that was not reported may be there all the same."""
    return ctx.read(UNREAD, None).covers(key)


def absent(ctx: Reads, key: ObjectKey) -> str:
    """Half a sentence about an object that was not reported: `Service shop/cart does not exist`."""
    return f"{key} {NOT_READ if is_unread(ctx, key) else 'does not exist'}"
