"""Writes docs/annotations.md from the table of annotations; `tests/test_docs.py` holds the page to it."""

from collections.abc import Iterator
from pathlib import Path

from portway.translate.ingress.annotations.entry import Annotation, Group, Unsupported
from portway.translate.ingress.annotations.reading import describe_default
from portway.translate.ingress.annotations.table import SUPPORTED, UNSUPPORTED

PAGE = Path(__file__).parent.parent / "docs" / "annotations.md"
INTRODUCTION = """\
# Annotations of ingress-nginx

<!-- Written by tools/make_annotation_docs.py from src/portway/translate/ingress/annotations/; edit there. -->

Portway honours annotations of ingress-nginx under their own names, with the prefix `nginx.ingress.kubernetes.io/` (or
the one that the operator sets, `annotation-prefix`). Surprises are kept where manifests depend on them; where Portway
differs on purpose, the entry says so.

- Booleans are Go's: `true`, `false`, `1`, `0`, `t`, `f` ... and neither `yes` nor `on`. Numbers are plain digits; times
  are whole seconds without a unit. White space around a value does not count, and an empty value is an absent one.
- A value that makes no sense is an error of `portway check` and named there with its remedy. Meanwhile annotations that
  only route fall back to their default; those that protect make the paths of their Ingress answer 503. Nothing is
  remembered: there is no last good version of an Ingress, as ingress-nginx keeps one.
- *path* annotations hold for the paths of the Ingress that carries them, *host* annotations for all paths of its hosts.
  The oldest Ingress of a host decides where several say something about the host.
- An annotation that is not supported yet has no effect, and `portway check` says so. Where somebody relies on it for
  protection (authentication, client certificates, a firewall, snippets with `deny`, `allow`, `auth_*`, `limit_*`,
  `satisfy` or `return`) the Ingress's paths answer 503. To remove it, or to let the operator ignore it with
  `--allow-unsupported NAME`, opens them: do so only where something else protects them.
- Some values ask for what happens anyway; nothing is said about those. Some annotations belong to another one: beside
  it, it alone is judged (and allowed or removed), and they are mentioned; alone, they are judged themselves.
- Rate limits (`limit-*`) keep load away, not callers: without them the paths are served, and nothing is limited.
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _supported(entry: Annotation[object]) -> str:
    name = f"`{entry.name}`" + (f", `{entry.alias}`" if entry.alias else "")
    columns = (
        name,
        f"{entry.form}; `{entry.example}`",
        describe_default(entry),
        entry.scope.value,
        entry.risk.value,
        entry.on_invalid.value,
        entry.text,
    )
    return f"| {' | '.join(_cell(column) for column in columns)} |"


def _unsupported(entry: Unsupported) -> str:
    effect = "nothing to notice" if entry.harmless else "503" if entry.protects else "served without it"
    if entry.group is Group.SNIPPETS and not entry.protects:
        effect = "503 if it may protect, else served without it"
    if entry.belongs_to:
        effect += f"; beside `{entry.belongs_to}` as that"
    anyway = ", ".join(f"`{value}`" for value in entry.anyway)
    return f"| `{entry.name}` | {entry.risk.value} | {effect} | {_cell(entry.text)} | {anyway} |"


def lines() -> Iterator[str]:
    """The lines of the page."""
    yield INTRODUCTION
    yield f"## Supported ({len(SUPPORTED)})\n"
    for group in Group:
        entries = [entry for entry in SUPPORTED if entry.group is group]
        if entries:
            yield f"### {group.value}\n"
            yield "| Annotation | Value | Default | Scope | Risk | While invalid | What it does |"
            yield "|---|---|---|---|---|---|---|"
            yield from map(_supported, entries)
            yield ""
    yield f"## Known, without effect yet ({len(UNSUPPORTED)})\n"
    for group in Group:
        unsupported = [entry for entry in UNSUPPORTED.values() if entry.group is group]
        if unsupported:
            yield f"### {group.value}\n"
            yield "| Annotation | Risk | Meanwhile | What happens instead | Values that change nothing |"
            yield "|---|---|---|---|---|"
            yield from map(_unsupported, unsupported)
            yield ""


def page() -> str:
    """The whole page."""
    return "\n".join(lines()).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
