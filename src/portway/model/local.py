"""Where Portway itself and its proxies' control are reached on their machine."""

import msgspec


class OwnPlaces(msgspec.Struct, frozen=True, kw_only=True):
    """What no user's object may send requests to."""

    folders: tuple[str, ...] = ()
    """Absolute, normal paths of the state folder, which holds the sockets of xDS and of Envoy's admin interface."""
    admin_host: str = ""
    """Of the admin address; a name or an address without brackets."""
    admin_port: int = 0
    """0: there is no admin address."""
