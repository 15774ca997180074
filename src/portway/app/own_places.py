"""The places that Portway itself takes on its machine, as the compiler has to know them."""

from pathlib import Path

from portway.model.local import OwnPlaces
from portway.settings import Settings


def own_places(settings: Settings) -> OwnPlaces:
    """Read from the settings; a relative state folder is one of the current folder, as `run` has it."""
    state = Path(settings.host.state_dir)
    host, _, port = settings.admin.admin_address.rpartition(":")
    return OwnPlaces(
        folders=tuple(sorted({str(state.absolute()), str(state.resolve())})),
        admin_host=host.strip("[]"),
        admin_port=int(port or 0),
    )
