"""Which fleets of proxies there are to be, and what each is to look like.

The set leaves the engine as `FLEETS_OUT`, by name: a fleet costs something only when its own Gateway, class or
parameters change.
"""

from typing import Final

from portway.incremental import Context, Output, bind
from portway.model.fleet import Fleet, owner_of
from portway.model.handles import FLEET, FLEETS
from portway.translate.gateway import fleets as gateway_fleets
from portway.translate.ingress import fleets as ingress_fleets


def fleet(ctx: Context, name: str) -> Fleet | None:
    """The fleet of that name; `None`: nobody wants it."""
    owner = owner_of(name)
    if owner is None:
        return None
    return gateway_fleets.fleet(ctx, name) if owner.kind == "Gateway" else ingress_fleets.fleet(ctx, name)


def _out(ctx: Context, name: str) -> Fleet | None:
    return ctx.get(FLEET, name)


FLEETS_OUT: Final[Output[str, Fleet]] = Output("fleets out", [FLEETS], _out)
BINDINGS: Final = (bind(FLEET, fleet),)
