"""Which release of Gateway API's definitions a cluster has.

Each definition says so in an annotation. Those of the kinds that we follow are read by name and without their schemas:
10 requests for 2 KB each, and the smallest right there is. Nobody watches: that would be 10 streams more for what
changes a few times a year, and only the leader, who writes it down, asks more than once.

Source: Gateway API, `gatewayclass_types.go` (condition `SupportedVersion`); Kubernetes docs, "API Concepts",
"Metadata-only fetches".
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final, final

import structlog

from portway.kubernetes.client import METADATA, ApiClient
from portway.kubernetes.errors import ApiError, ApiUnreachable
from portway.kubernetes.paths import resource_path
from portway.kubernetes.watch_lines import MALFORMED, envelope_of
from portway.objects.kinds import KINDS
from portway.objects.references_v1 import GATEWAY_GROUP

log = structlog.get_logger(__name__)

GROUP: Final = "apiextensions.k8s.io"
PLURAL: Final = "customresourcedefinitions"
NAMES: Final = tuple(sorted(f"{kind.plural}.{kind.group}" for kind in KINDS.values() if kind.group == GATEWAY_GROUP))
"""Of the definitions that are read."""
BUNDLE_VERSION: Final = f"{GATEWAY_GROUP}/bundle-version"
AGAIN: Final = timedelta(minutes=1)

Versions = Mapping[str, str]
"""Bundle version by definition; empty: that one does not say. Definitions that are not there are left out."""


async def read_versions(client: ApiClient) -> Versions:
    """The versions of all that are there.

    Raises:
        ApiError, ApiUnreachable: one of them cannot be read.
    """
    found: dict[str, str] = {}
    for name in NAMES:
        path = resource_path(GROUP, "v1", PLURAL, name=name)
        try:
            envelope = envelope_of(await client.get(path, accept=METADATA))
        except ApiError as error:
            if error.status != 404:
                raise
        except MALFORMED as error:
            raise ApiUnreachable(f"{path}: the answer is no object ({error}); is this an API server?") from error
        else:
            found[name] = (envelope.annotations or {}).get(BUNDLE_VERSION, "")
    return found


@final
class DefinitionWatch:
    """Tells the versions as they change."""

    def __init__(self, client: ApiClient, told: Callable[[Versions], None], *, again: timedelta = AGAIN) -> None:
        """
        Args:
            told: gets the versions; none where they may not be read. Called again and again, mostly with the same.
            again: until the next look.
        """
        self._client = client
        self._told = told
        self._again = again.total_seconds()
        self._is_refused = False

    async def look(self) -> None:
        """Ask once. Where there is no answer, what was known stays."""
        try:
            self._told(await read_versions(self._client))
            self._is_refused = False
        except ApiUnreachable as error:
            log.debug("versions of definitions cannot be read", problem=str(error))
        except ApiError as error:
            if error.status == 403:
                self._told({})
            if not self._is_refused:
                self._is_refused = True
                log.info("nothing is said about the version of Gateway API", problem=str(error))

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._again)
