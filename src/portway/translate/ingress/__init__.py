"""Ingress, with the annotations of ingress-nginx: from objects to virtual hosts, filter chains and verdicts.

How a change walks through: `shares.py` cuts an Ingress into a share per host (`classes.py` says whether it is ours,
`annotations/` what its annotations mean); `hosts.py` puts a host together and says who owns which path; `names.py`
gives out aliases; `virtual_hosts.py` and `routes.py` make the match table, `chains.py` what happens on the sockets;
`reports.py` says what is wrong. Nothing reads more than one host, so a change costs what its hosts cost.
"""

from collections.abc import Callable, Mapping
from typing import Final

from portway.incremental import AnyRelation, Context, Feed
from portway.model.condition import ObjectReport
from portway.objects.verdict import ObjectKey
from portway.store import Index
from portway.translate.ingress import chains, classes, fleets, hosts, names, reports, shares, virtual_hosts

INDEXES: Final[tuple[Index, ...]] = (classes.DEFAULT_CLASSES,)
RELATIONS: Final[tuple[AnyRelation, ...]] = (
    shares.SHARES,
    *hosts.RELATIONS,
    *names.RELATIONS,
    *chains.RELATIONS,
)
"""In the order of evaluation."""
FEEDS: Final[tuple[Feed, ...]] = (
    *shares.FEEDS,
    *hosts.FEEDS,
    *names.FEEDS,
    *chains.FEEDS,
    *virtual_hosts.FEEDS,
    *fleets.FEEDS,
)
REPORTS: Final[Mapping[str, Callable[[Context, ObjectKey], ObjectReport]]] = {
    "Ingress": reports.report_ingress,
    "IngressClass": reports.report_class,
}
virtual_host = virtual_hosts.virtual_host
route_table = virtual_hosts.route_table
