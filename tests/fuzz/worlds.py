"""Worlds of declared objects that hang together, and the many ways in which they can be spoiled.

A *draft* is a template (`templates.yaml`: one object of each sort, with as many fields as it can have at once) with
some values replaced or removed. A change after which the object would be refused as a whole is left out: what `parse`
refuses never reaches translation, and `tests/objects` fuzzes that. So nearly every draft is an object that a cluster
would hold, however odd. Names are few, so that objects meet, replace and miss one another.
"""

import copy
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import msgspec
import yaml
from hypothesis import strategies as st

from portway.objects.parsing import parse
from portway.objects.verdict import ObjectKey
from portway.store import Stored
from portway.translate.ingress.annotations.table import BY_NAME, UNSUPPORTED
from tests.fuzz.values import DURATIONS, FITTING, MATERIAL, NAMESPACES, NASTY, NUMBERS, REMOVED

Raw = dict[str, object]
Site = tuple[str | int, ...]
"""Where a value stands in a document."""

NGINX = "nginx.ingress.kubernetes.io/"
AGES = (None, "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z")


class Draft(msgspec.Struct, frozen=True):
    """One object to be declared."""

    stored: Stored

    def __repr__(self) -> str:
        """The object as YAML, so that a falsifying example can be pasted into a file."""
        return "\n--- # " + str(self.stored.key) + "\n" + as_yaml(self.stored)


def as_yaml(stored: Stored) -> str:
    """A declared object in words for a report; key material is left out by its type."""
    return yaml.safe_dump(msgspec.to_builtins(stored.object, str_keys=True, enc_hook=str), sort_keys=False)


@cache
def templates() -> tuple[Raw, ...]:
    """All templates, with the key material in place."""
    return _documents("templates.yaml")


@cache
def good() -> tuple[Stored, ...]:
    """The world that is none of the others' business."""
    drafts = [make_draft(document, "", "", None, ()) for document in _documents("good.yaml")]
    assert None not in drafts
    return tuple(draft.stored for draft in drafts if draft is not None)


def _documents(name: str) -> tuple[Raw, ...]:
    text = (Path(__file__).parent / name).read_text()
    found: list[Raw] = []
    for document in yaml.safe_load_all(text):
        for field in ("data", "stringData"):
            if field in document:
                document[field] = {name: MATERIAL.get(value, value) for name, value in document[field].items()}
        found.append(document)
    return tuple(found)


TWICE = ("Service", "EndpointSlice", "Secret", "ConfigMap")
"""Kinds of which the base world has each template in both namespaces: what others refer to."""


@cache
def base() -> tuple[Stored, ...]:
    """Every template as it is, in the namespace shop; what others refer to in pay as well."""
    drafts = [
        make_draft(template, "", namespace, None, ())
        for template in templates()
        for namespace in (NAMESPACES if template["kind"] in TWICE else NAMESPACES[:1])
    ]
    assert None not in drafts
    return tuple(draft.stored for draft in drafts if draft is not None)


def sites(raw: object, site: Site = ()) -> list[Site]:
    """Every place in a document below its identity."""
    found: list[Site] = [site] if site and site[0] not in ("apiVersion", "kind") and site != ("metadata",) else []
    if isinstance(raw, dict):
        for name, value in raw.items():
            if (*site, name) not in (("metadata", "name"), ("metadata", "namespace")):
                found += sites(value, (*site, name))
    elif isinstance(raw, list):
        for index, value in enumerate(raw):
            found += sites(value, (*site, index))
    return found


def values_for(site: Site, value: object) -> st.SearchStrategy[object]:
    """What may be put in place of a value."""
    field = next(step for step in reversed(site) if isinstance(step, str))
    fitting = FITTING.get(field, ())
    options: list[st.SearchStrategy[object]] = [st.just(REMOVED)]
    if fitting:
        options.append(st.sampled_from(fitting))
    match value:
        case bool():
            options.append(st.booleans())
        case int():
            options.append(st.sampled_from(NUMBERS) | st.integers(0, 70_000))
        case str():
            options += [
                st.sampled_from(NASTY),
                st.sampled_from(NASTY),
                st.text(max_size=12),
                st.sampled_from(DURATIONS),
            ]
        case list() if value:
            options.append(st.sampled_from([[], value[::-1], value + value[:1]]))
        case dict():
            options.append(st.just({}))
    return st.one_of(options)


def at(raw: object, site: Site) -> object:
    """The value at a place."""
    for step in site:
        assert isinstance(raw, dict | list)
        raw = raw[step]  # type: ignore[index]  # a step fits its holder
    return raw


def changed(raw: Raw, site: Site, value: object) -> Raw | None:
    """The document with one value replaced; `None` if an earlier change took the place away."""
    made = copy.deepcopy(raw)
    holder: object = made
    for step in site[:-1]:
        if not _has(holder, step):
            return None
        assert isinstance(holder, dict | list)
        holder = holder[step]  # type: ignore[index]  # a step fits its holder
    last = site[-1]
    if isinstance(holder, dict) and isinstance(last, str):
        holder[last] = value
        if value == REMOVED:
            del holder[last]
    elif isinstance(holder, list) and isinstance(last, int) and last < len(holder):
        holder[last : last + 1] = [] if value == REMOVED else [value]
    else:
        return None
    return made


def _has(holder: object, step: str | int) -> bool:
    if isinstance(holder, dict):
        return step in holder
    return isinstance(holder, list) and isinstance(step, int) and step < len(holder)


def make_draft(
    template: Raw, name: str, namespace: str, age: str | None, changes: Sequence[tuple[Site, object]]
) -> Draft | None:
    """An object from a template; changes after which it would be refused are left out."""
    raw = copy.deepcopy(template)
    metadata = raw["metadata"]
    assert isinstance(metadata, dict)
    if name:
        metadata["name"] = name
    metadata.setdefault("namespace", namespace)
    if age is not None:
        metadata["creationTimestamp"] = age
    good = parse(raw)
    for site, value in changes:
        tried = changed(raw, site, value)
        if tried is None:
            continue
        parsed = parse(tried)
        if parsed.object is not None:
            raw, good = tried, parsed
    return None if good.object is None or good.key is None else Draft(Stored(good.key, good.object))


def _drafts_of(template: Raw) -> st.SearchStrategy[Draft]:
    places = sites(template)
    change = st.sampled_from(places).flatmap(
        lambda site: st.tuples(st.just(site), values_for(site, at(template, site)))
    )
    annotations: st.SearchStrategy[Mapping[str, str]] = st.just({})
    if template["kind"] == "Ingress":
        annotations = st.dictionaries(*_pair(), max_size=5)
    metadata = template["metadata"]
    assert isinstance(metadata, dict)
    names = st.sampled_from(["", "", "", "a", "z"])

    def make(
        name: str, namespace: str, age: str | None, changes: list[tuple[Site, object]], noted: Mapping[str, str]
    ) -> Draft | None:
        edits = [(("metadata", "annotations", key), value) for key, value in noted.items()]
        with_map = copy.deepcopy(template)
        if edits:
            holder = with_map["metadata"]
            assert isinstance(holder, dict)
            holder.setdefault("annotations", {})
        return make_draft(with_map, name, namespace, age, [*changes, *edits])

    made = st.builds(
        make,
        names,
        st.sampled_from(NAMESPACES),
        st.sampled_from(AGES),
        st.lists(change, min_size=1, max_size=6),
        annotations,
    )
    return made.filter(lambda draft: draft is not None)  # type: ignore[return-value]  # what is left is a draft


def _pair() -> tuple[st.SearchStrategy[str], st.SearchStrategy[str]]:
    """Names and values of annotations, apart: any value may meet any name."""
    values = st.one_of(
        st.sampled_from(NASTY),
        st.text(max_size=8),
        st.sampled_from(sorted({entry.example for entry in BY_NAME.values()})),
    )
    return st.sampled_from(sorted(NGINX + name for name in (*BY_NAME, *UNSUPPORTED, "no-such-thing"))), values


@cache
def drafts() -> st.SearchStrategy[Draft]:
    """Objects of every kind; those with most in them most often."""
    weights = {"Ingress": 4, "HTTPRoute": 3, "Gateway": 3, "GRPCRoute": 2, "UpstreamPolicy": 2, "Service": 2}
    options = [_drafts_of(template) for template in templates() for _ in range(weights.get(str(template["kind"]), 1))]
    return st.one_of(options)


Edit = Draft | ObjectKey
"""An object to be put, or the key of one to be removed."""


@cache
def edits() -> st.SearchStrategy[Edit]:
    """Puts mostly, of new or existing objects; now and then a removal."""
    keys = [stored.key for stored in base()]
    return st.one_of(drafts(), drafts(), drafts(), st.sampled_from(keys))
