"""The whole program over a world: what leaves the engine, kept up to date by its deltas as a proxy's owner would."""

from collections.abc import Hashable, Iterable, Mapping
from typing import cast

from portway.app.compiler import REPORTS, make_engine
from portway.app.fallback import make_fallback_certificate
from portway.envoy.outputs import OUTPUTS
from portway.model.condition import ObjectReport, Reported
from portway.model.resource import Resource
from portway.objects.verdict import ObjectKey
from portway.settings import Edge
from portway.store import ChangeSet, Stored
from tests.fuzz.worlds import Draft, Edit

FALLBACK = make_fallback_certificate()
EDGE = Edge(http3=True, bind_addresses=("127.0.0.1",))
"""With everything that makes more resources."""

EDGES = (
    EDGE,
    Edge(bind_addresses=("127.0.0.1",), all_classes=True, watch_ingress_without_class=True),
    Edge(
        bind_addresses=("127.0.0.1",),
        trusted_proxies=("10.0.0.0/8", "2001:db8::/32"),
        proxy_protocol=True,
        hsts=True,
        server_header="edge",
        force_ssl_redirect=True,
        escaped_slashes="redirect",
        underscores_in_headers="drop",
        tls_min_version="1.3",
        default_certificate="shop/certificate",
        allow_unsupported=frozenset({"auth-url", "configuration-snippet"}),
        tracing_collector="127.0.0.1:4317",
        statistics_for=frozenset({"shop", "pay/cart"}),
        access_log="",
        exclusive_hosts=True,
    ),
)
"""Operators decide differently."""


class Compiled:
    """An engine and all that came out of it so far."""

    def __init__(self, stored: Iterable[Stored] = (), edge: Edge = EDGE) -> None:
        self.engine = make_engine(edge, FALLBACK)
        self.present: dict[ObjectKey, Stored] = {}
        self.outputs: dict[str, dict[Hashable, object]] = {output.name: {} for output in (*OUTPUTS, REPORTS)}
        self.put(stored)

    def put(self, stored: Iterable[Stored] = (), removed: Iterable[ObjectKey] = ()) -> None:
        """Apply a change set and take in what it changed; a function that raised is a bug, whatever the objects."""
        changed, gone = tuple(stored), tuple(removed)
        for key in gone:
            self.present.pop(key, None)
        for each in changed:
            self.present[each.key] = each
        self.engine.apply(ChangeSet(changed=changed, removed=gone))
        delta = self.engine.settle()
        assert self.engine.failures() == ()
        for output in (*OUTPUTS, REPORTS):
            values, keys = delta.of_any(output)
            here = self.outputs[output.name]
            for member in keys:
                here.pop(member, None)
            here.update(values)

    def edit(self, edit: Edit) -> None:
        """Apply one edit."""
        if isinstance(edit, Draft):
            self.put([edit.stored])
        else:
            self.put(removed=[edit])

    def resources(self) -> list[Resource]:
        """All resources, each name once."""
        found = {
            value.key: value for each in self.outputs.values() for value in each.values() if isinstance(value, Resource)
        }
        return list(found.values())

    def reports(self) -> Mapping[ObjectKey, ObjectReport]:
        """What there is to say about each object."""
        reports = cast("Mapping[ObjectKey, Reported]", self.outputs[REPORTS.name])
        return {key: reported.report for key, reported in reports.items()}


def differences(one: Compiled, other: Compiled) -> Mapping[str, tuple[object, object]]:
    """Where the outputs of two engines differ: key to both values. Empty: nowhere, to the byte."""
    return {
        f"{name}: {key}": (one.outputs[name].get(key), other.outputs[name].get(key))
        for name in one.outputs
        for key in one.outputs[name].keys() | other.outputs[name].keys()
        if one.outputs[name].get(key) != other.outputs[name].get(key)
    }
