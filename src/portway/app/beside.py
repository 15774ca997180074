"""What runs beside sources, pipeline and proxies, wherever the proxies are."""

from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path

from portway.app.console import Console, announce, complain, show_progress
from portway.app.door import attend, open_door
from portway.app.fallback import renew_fallback_certificate
from portway.app.live_settings import SettingsFile, follow_settings
from portway.app.machine import Machine
from portway.model.tls import Secret

Beside = Callable[[], Coroutine[None, None, None]]
"""Runs beside the rest until it is cancelled."""


def runs_beside(
    machine: Machine, console: Console, settings_file: SettingsFile | None, state: Path, fallback: Secret
) -> list[Beside]:
    """What is to be run. The admin address is bound at once.

    Args:
        settings_file: followed, if there is one.
        state: the state folder.
        fallback: the certificate that is served where no other fits.

    Raises:
        OSError: the admin address cannot be had; the message says why and what to do.
    """
    settings = machine.settings
    found: list[Beside] = [
        partial(renew_fallback_certificate, state, fallback, machine.use_fallback_certificate),
        partial(announce, machine, console),
        partial(show_progress, machine, console),
        partial(complain, machine),
    ]
    door = open_door(settings.admin.admin_address)
    if door is not None:
        found.append(partial(attend, machine, door))
    if settings_file is not None:
        found.append(partial(follow_settings, settings_file, settings, machine.use_edge))
    return found
