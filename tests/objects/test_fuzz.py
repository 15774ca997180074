"""Laws over documents that nobody would write."""

from collections.abc import Mapping
from typing import cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from portway.objects.fields import bare, fields_of
from portway.objects.kinds import KINDS, Kind
from portway.objects.leaves import UNSOUND, Report
from portway.objects.meta import Part
from portway.objects.parsing import Parsed, parse, parse_json
from portway.objects.scalars import decode_hook
from portway.objects.schema import read
from portway.objects.unknown import unknown_fields
from portway.objects.verdict import Severity

WORDS = st.sampled_from(
    [
        *(
            "",
            "a",
            "A",
            "-",
            "a.b",
            "*.a",
            "*",
            "/",
            "/a",
            "//",
            "10.0.0.1",
            "::1",
            "10s",
            "1m30s",
            "80",
            "http",
            "é\n",
        ),
        *("gateway.networking.k8s.io", "portway.dev", "Service", "kubernetes.io/tls", "dmFsdWU=", "example.com/a"),
        *("2026-01-31T12:00:00Z", "System", "HTTP", "TLS", "None", "\x00", "\ud800", "a" * 300),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.integers(-1, 600) | st.floats() | WORDS | st.text(max_size=20)
FIELDS = st.sampled_from(["name", "spec", "metadata", "rules", "apiVersion", "kind"])
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS | WORDS | st.integers(), inner, max_size=4),
    max_leaves=12,
)


def fitting(info: inspect.Type) -> st.SearchStrategy[object]:
    """Values of a type, mostly: bounds are met often enough, and missed now and then."""
    info, _ = bare(info)
    match info:
        case inspect.StructType():
            return fitting_struct(cast(type[Part], info.cls))
        case inspect.VarTupleType():
            return st.lists(st.deferred(lambda: fitting(info.item_type)), max_size=3)
        case inspect.DictType():
            return st.dictionaries(WORDS, st.deferred(lambda: fitting(info.value_type)), max_size=3)
        case inspect.EnumType():
            return st.sampled_from([str(member.value) for member in info.cls])
        case inspect.LiteralType():
            return st.sampled_from(info.values)
        case inspect.IntType():
            return st.integers(int(info.ge or 0), int(info.le or 70_000))
        case inspect.BoolType():
            return st.booleans()
        case inspect.CustomType():
            return st.sampled_from(["10s", "1m30s", "0s", "dmFsdWU=", ""])
        case _:
            return WORDS


def fitting_struct(struct: type[Part]) -> st.SearchStrategy[dict[str, object]]:
    """Mappings with the fields of a struct, each rarely of some other shape."""
    required: dict[str, st.SearchStrategy[object]] = {}
    optional: dict[str, st.SearchStrategy[object]] = {}
    for field in fields_of(struct):
        value = st.one_of(*[fitting(field.type)] * 9, ANYTHING)
        (required if field.required else optional)[field.encode_name] = value
    return st.fixed_dictionaries(required, optional=optional)


def documents(kind: Kind) -> st.SearchStrategy[dict[str, object]]:
    head = {"apiVersion": st.sampled_from(kind.api_versions), "kind": st.just(kind.name)}
    body = fitting_struct(kind.struct)
    return st.tuples(st.fixed_dictionaries(head), body).map(lambda parts: cast(dict[str, object], parts[0] | parts[1]))


def check_result(parsed: Parsed) -> None:
    errors = [verdict for verdict in parsed.verdicts if verdict.severity is Severity.ERROR]
    assert (parsed.object is None) == bool(parsed.verdicts)
    if parsed.object is not None:
        assert parsed.key is not None
    for verdict in errors:
        assert verdict.problem
        assert verdict.remedy
        assert "cannot be read" not in verdict.problem
        assert len(str(verdict)) < 2_000


def is_encodable(raw: object) -> bool:
    """Can JSON say it? Not keys that are neither strings nor numbers, nor lone surrogates."""
    try:
        msgspec.json.encode(raw)
    except (TypeError, ValueError):
        return False
    return True


@given(ANYTHING, st.booleans())
@settings(max_examples=300)
def test_anything_can_be_parsed(raw: object, from_cluster: bool) -> None:
    check_result(parse(raw, from_cluster=from_cluster))


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: str(kind.name))
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_documents_of_every_kind_can_be_parsed(kind: Kind, data: st.DataObject) -> None:
    raw = data.draw(documents(kind))
    parsed = parse(raw)
    check_result(parsed)
    unknown_fields(raw, kind)
    if not is_encodable(raw):
        return
    # Whether msgspec or the reader judges makes no difference, and what the reader has cleaned decodes.
    try:
        msgspec.convert(raw, kind.struct, dec_hook=decode_hook)
        decodes = True
    except msgspec.ValidationError:
        decodes = False
    report = Report()
    cleaned = read(kind.struct, raw, report)
    assert (cleaned is UNSOUND) == bool(report.problems)
    if decodes:
        assert report.problems == []
    if cleaned is not UNSOUND:
        msgspec.convert(cleaned, kind.struct, dec_hook=decode_hook)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: str(kind.name))
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_json_is_judged_like_data(kind: Kind, data: st.DataObject) -> None:
    raw = data.draw(documents(kind))
    if not is_encodable(raw):
        return
    encoded = msgspec.json.encode(raw)
    again = cast(Mapping[str, object], msgspec.json.decode(encoded))
    assert parse_json(kind, encoded, from_cluster=False) == parse(again)


@given(st.binary(max_size=60), st.sampled_from(sorted(KINDS)))
def test_any_bytes_can_be_parsed(data: bytes, name: str) -> None:
    check_result(parse_json(KINDS[name], data))


NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
PATHS = st.builds(
    lambda kind, parts: {"type": kind, "value": "/" + "/".join(parts)},
    st.sampled_from(["Exact", "PathPrefix"]),
    st.lists(NAMES, max_size=4),
)
HEADERS = st.dictionaries(NAMES, NAMES, max_size=3).map(
    lambda found: [{"name": name, "value": value} for name, value in found.items()]
)


def _shape(optional: Mapping[str, st.SearchStrategy[object]]) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries({}, optional=dict(optional))


MATCHES = _shape({"path": PATHS, "method": st.sampled_from(["GET", "POST"]), "headers": HEADERS})
BACKENDS = st.builds(
    lambda name, port, weight: {"name": name, "port": port, "weight": weight},
    NAMES,
    st.integers(1, 65535),
    st.integers(0, 1_000_000),
)
RULES = _shape(
    {
        "matches": st.lists(MATCHES, max_size=4),
        "backendRefs": st.lists(BACKENDS, max_size=4),
        "timeouts": st.integers(0, 99_999).map(lambda seconds: {"request": f"{seconds}s"}),
    }
)
HOSTS = st.lists(st.builds("{}.{}".format, NAMES, NAMES), max_size=4)


@given(NAMES, HOSTS, st.lists(RULES, min_size=1, max_size=16))
@settings(max_examples=50, deadline=None)
def test_good_routes_are_taken(name: str, hosts: list[str], rules: list[dict[str, object]]) -> None:
    spec = {"hostnames": hosts, "rules": rules}
    raw = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name}, "spec": spec}
    parsed = parse(raw)
    assert parsed.verdicts == ()
    assert parsed.object is not None
