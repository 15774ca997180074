"""The query engine: derived state as pure functions whose reads are recorded.

A *query* is a function of a context and a key. It is memoised; while it runs, what it reads is recorded as edges in
both directions. When an input changes, its direct readers become dirty and the readers of those become *suspect*: a
suspect verifies the things it read, in the order in which it read them, and runs again only if one of them has really
changed. A query whose new value equals its old one stops the wave there. So cost follows the change, nobody maintains
derived state by hand, and the same objects give the same values in any order of arrival. (The design is that of salsa
and of build systems; istio's krt has the keyed collections.)

Two things are added to that classical scheme:

- A **relation** groups rows that queries contribute ("routes per listener and host"). Each member's contribution is a
  *feed* node; a change of one member touches the groups where its rows differ and no others. Groups come and go with
  their rows, and can be the members of a further relation or of an output. Relations are evaluated in the order in
  which the program names them: a feed may read groups of earlier relations only, so a group that is read is always
  final.
- An **output** is a keyed set of values that leaves the engine as a delta, never as a list to be compared.

Work is done in steps of one feed or output node, so that the caller can bound how long it takes; outputs marked
`early` go before everything else. Queries must be pure: they read through the context only and keep nothing. A query
that raises has its error as value: who reads it raises too, and at the feed or output it ends as a `Failure`, where
the feed contributes nothing and the output keeps what it last gave out.

Not here: what the objects mean, when to publish, any I/O or clock.
"""

from portway.incremental.engine import Engine
from portway.incremental.handles import (
    AnyOutput,
    AnyRelation,
    Binding,
    Context,
    CycleError,
    Delta,
    EngineStatistics,
    Failure,
    Feed,
    Function,
    Members,
    Output,
    Program,
    Query,
    Relation,
    bind,
    feed,
    query,
)

__all__ = [
    "AnyOutput",
    "AnyRelation",
    "Binding",
    "Context",
    "CycleError",
    "Delta",
    "Engine",
    "EngineStatistics",
    "Failure",
    "Feed",
    "Function",
    "Members",
    "Output",
    "Program",
    "Query",
    "Relation",
    "bind",
    "feed",
    "query",
]
