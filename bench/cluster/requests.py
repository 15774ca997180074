"""What the API server was asked, by its own count: all its clients together."""

import asyncio
import re
from collections import Counter

import msgspec

from tests.cluster.api import Api

_LINE = re.compile(r"^apiserver_request_total\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')

QUIET_SECONDS = 2.0

OURS = frozenset({"services", "endpointslices", "httproutes", "gateways", "gatewayclasses"})
"""Resources that matter here: nobody but the controller and the cluster's own load balancer reads them."""


class Requests(msgspec.Struct, frozen=True):
    """By verb and resource (with its subresource behind a slash)."""

    of: Counter[tuple[str, str]]

    def since(self, before: "Requests") -> "Requests":
        return Requests(self.of - before.of)

    def writes(self, resource: str) -> int:
        """How often it was written, by whatever verb."""
        return self.of["PUT", resource] + self.of["PATCH", resource]

    def __str__(self) -> str:
        verbs: Counter[str] = Counter()
        for (verb, resource), count in self.of.items():
            if resource.partition("/")[0] in OURS:
                verbs[verb.lower()] += count
        return ", ".join(f"{verb} {count:,}" for verb, count in sorted(verbs.items())) or "none"


async def requests_so_far(api: Api) -> Requests:
    """All that was answered until now; a watch counts when it ends."""
    page = (await api.request("GET", "/metrics")).decode()
    found: Counter[tuple[str, str]] = Counter()
    for line in _LINE.finditer(page):
        labels = dict(_LABEL.findall(line["labels"]))
        resource = labels.get("resource", "")
        if labels.get("subresource"):
            resource += f"/{labels['subresource']}"
        found[labels.get("verb", ""), resource] += int(float(line["value"]))
    return Requests(found)


async def until_written(api: Api) -> None:
    """Until nobody has written a status of a route or a Gateway for two seconds."""
    before: list[int] = []
    while True:
        so_far = await requests_so_far(api)
        written = [so_far.writes(f"{kind}/status") for kind in ("httproutes", "gateways")]
        if written == before:
            return
        before = written
        await asyncio.sleep(QUIET_SECONDS)
