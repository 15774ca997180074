"""The first status of a new route: one request, in which the server makes sure that there is none yet.

A JSON patch is applied as a whole or not at all. Its tests say which object, in which generation, and that nobody has
spoken of it; so whoever did is never overwritten, and nothing has to be read before. The server itself copies each
`parentRef` out of the spec, where it stands as its owner wrote it. If a test fails, the object is read as any other.

Source: RFC 6902; Kubernetes docs, "API Concepts", "Patch mechanisms": a path that is not there tests equal to `null`.
"""

from typing import Final

import msgspec

from portway.objects.references_v1 import GATEWAY_GROUP
from portway.status.merge import Merged, Statement, merge
from portway.status.raw import Raw, as_list, as_map
from portway.status.references import ROUTES, Identity, identity_of, written_out

OTHERWISE: Final = (403, 409, 422)
"""Answers after which the object is read: we may not patch; it is being written; a test failed, or the status is not
taken."""


def may_be_first(statement: Statement) -> bool:
    """Whether nobody has spoken of the object, as far as one can tell without asking."""
    return statement.key.kind in ROUTES and statement.generation == 1 and bool(statement.uid)


def first_status(statement: Statement, *, controller: str, now: str) -> tuple[Merged, bytes]:
    """The status of a route that has none, and the JSON patch that writes it.

    Args:
        statement: for which `may_be_first`.
        controller, now: as for `merge`.
    """
    namespace = statement.key.namespace
    index_of = {
        Identity(
            GATEWAY_GROUP, one.parent.kind, one.parent.namespace, one.parent.name, one.section, one.port
        ): one.index
        for one in reversed(statement.report.parents)
    }
    new: Raw = {
        "metadata": {"uid": statement.uid, "generation": statement.generation},
        "spec": {"parentRefs": [written_out(identity) for identity in index_of]},
    }
    merged = merge(new, statement, controller=controller, now=now)
    entries = map(as_map, as_list((merged.status or {}).get("parents")))
    named = [index_of[identity_of(as_map(entry["parentRef"]), namespace)] for entry in entries]
    operations = (
        {"op": "test", "path": "/metadata/uid", "value": statement.uid},
        {"op": "test", "path": "/metadata/generation", "value": statement.generation},
        {"op": "test", "path": "/status", "value": None},
        {"op": "add", "path": "/status", "value": merged.status},
        *(
            {"op": "copy", "from": f"/spec/parentRefs/{index}", "path": f"/status/parents/{place}/parentRef"}
            for place, index in enumerate(named)
        ),
    )
    return merged, msgspec.json.encode(operations)
