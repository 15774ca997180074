"""Writes docs/defaults.md from the model's structs; `tests/test_docs.py` holds the page to it."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec

from portway.model.upstream import Balancer, Circuit, HealthCheck, Outliers, RetryBudget, Upstream
from portway.settings import Edge, field_texts

PAGE = Path(__file__).parent.parent / "docs" / "defaults.md"
HEAD = """\
# Defaults

Written by `make docs` from `src/portway/settings.py` and `src/portway/model/`; do not edit.

What holds where nobody has said anything: for clients (the edge) by the settings of the
[configuration](configuration.md), for upstreams by what stands below. An `UpstreamPolicy` ([Portway's own
objects](design/portway-api.md)), a BackendTLSPolicy, a route or an annotation changes it for its own Services.
"""
UPSTREAMS: dict[type[msgspec.Struct], str] = {
    Upstream: "An upstream",
    RetryBudget: "Retries: how many at one time",
    Outliers: "Passive ejection",
    Circuit: "Circuit breaking",
    Balancer: "Balancing",
    HealthCheck: "Active health checks, where a policy asks for them",
}
LEFT_OUT = {"name", "origins", "dns_name", "dns_port", "retry", "discovery", "tls", "statistics"}
"""Fields that say what an upstream is, not how it is treated."""


def shown(value: object) -> str:
    match value:
        case timedelta():
            return f"{value.total_seconds():g} s"
        case None | "" | ():
            return "none"
        case frozenset() if not value:
            return "none"
        case bool():
            return "yes" if value else "no"
        case msgspec.Struct():
            return "see below"
        case tuple():
            return ", ".join("-".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in value)
        case _:
            return str(value)


def rows(kind: type[msgspec.Struct]) -> Iterator[str]:
    texts = field_texts(kind)
    for field in msgspec.structs.fields(kind):
        if field.name not in LEFT_OUT and field.default is not msgspec.NODEFAULT:
            name = field.name.replace("_", " ")
            yield f"| {name} | {shown(field.default)} | {texts.get(field.name, '')} |"


def page() -> str:
    """The whole page."""

    def sections() -> Iterator[str]:
        yield "\n## The edge\n"
        yield "| setting | default | |"
        yield "|---|---|---|"
        yield from rows(Edge)
        for kind, title in UPSTREAMS.items():
            yield f"\n## {title}\n"
            if kind.__doc__:
                yield kind.__doc__.replace("\n", " ") + "\n"
            yield "| | default | |"
            yield "|---|---|---|"
            yield from rows(kind)

    return HEAD + "\n".join(sections()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
