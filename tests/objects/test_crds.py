"""The structs against Gateway API's own custom resource definitions: fields, bounds and defaults, field by field.

What the definitions say in `x-kubernetes-validations` is in the tables of `test_gateway_rules.py`.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import cast

import msgspec
import pytest
import yaml
from msgspec import inspect

from portway.objects import fields
from portway.objects.channels import EXPERIMENTAL_FIELDS
from portway.objects.kinds import KINDS, kind_of
from portway.objects.meta import Part
from portway.objects.references_v1 import GATEWAY_GROUP
from portway.objects.scalars import decode_hook, encode_hook
from tests.objects.gateway_module import MODULE, needs_module

Schema = Mapping[str, object]

DIFFERENT_ON_PURPOSE = {
    # Path below the kind: why.
    "TCPRoute v1 spec.rules: maxItems": "v1 takes one rule, v1alpha2 sixteen; the difference is a rule of the version",
    "UDPRoute v1 spec.rules: maxItems": "as TCPRoute",
    "TLSRoute v1 spec.rules: maxItems": "as TCPRoute",
    "TLSRoute v1alpha3 spec.rules: maxItems": "as v1",
    "TLSRoute v1 spec.hostnames: required": "optional in v1alpha2; the difference is a rule of the version",
    "TLSRoute v1alpha3 spec.hostnames: required": "as v1",
    "TLSRoute v1 spec.hostnames: minItems": "as required",
    "TLSRoute v1alpha3 spec.hostnames: minItems": "as required",
}

UNBOUNDED = ("selector.matchExpressions.operator",)
"""The API takes any word as operator of a selector, but only four mean something: another is refused."""

SAMPLES = (
    *("", "a", "A", "1", "-", ".", "*", "/", "a.b", "a..b", "-a", "a-", "a_b", "A.b", "a" * 63, "a" * 64, "a" * 253),
    *("*.a", "*.a.b", "a.*.b", "*", "**.a", "a/b", "a.b/c", "example.com/controller", "example.com/a/b~", "/a", "a/"),
    *(
        "GET",
        "Exact",
        "IPAddress",
        "Hostname",
        "NamedAddress",
        "xHostname",
        "Hostnamex",
        "System",
        "example.com/System",
    ),
    *("http://a", "https://*.a.b:80", "https://a:123456", "http://*", "spiffe://a/b", "a:b", "//a", "urn:x", "x://"),
    *("x y", "x\ty", "x  y", " x", "x ", "x\ny", "x\n", "a\n", "é", "%41", "%4", "/%41", "/a?b", "[", "a,b", "a=b"),
    *("HTTP", "TCP", "example.com/tcp", "-HTTP", "10s", "1h30m", "1.5s", "10", "100000s", "1ms1ms1ms1ms1ms", "0s"),
)


@functools.cache
def _versions(channel: str = "experimental") -> Mapping[tuple[str, str], Schema]:
    """Schema of each kind and version."""
    found = {}
    for path in sorted((MODULE / "config" / "crd" / channel).glob(f"{GATEWAY_GROUP}_*.yaml")):
        for document in yaml.load_all(path.read_text(), yaml.CSafeLoader):
            if document["kind"] == "CustomResourceDefinition":
                for version in document["spec"]["versions"]:
                    key = (document["spec"]["names"]["kind"], version["name"])
                    found[key] = version["schema"]["openAPIV3Schema"]
    return found


def _differences(schema: Schema, info: inspect.Type, path: str, default: object) -> Iterator[str]:
    info, extra = fields.bare(info)
    if default is not _NONE and "default" in schema:
        ours = msgspec.to_builtins(default, enc_hook=encode_hook)
        if not _same_default(schema["default"], info, ours):
            yield f"{path}: default {schema['default']!r}, ours {ours!r}"
    match schema.get("type"):
        case "object" if "properties" in schema:
            yield from _object_differences(schema, info, path)
        case "object":
            assert isinstance(info, inspect.DictType), path
            yield from _bounds(schema, {"maxProperties": info.max_length}, path)
            yield from _differences(cast(Schema, schema["additionalProperties"]), info.value_type, f"{path}.*", _NONE)
        case "array":
            assert isinstance(info, inspect.VarTupleType), path
            yield from _bounds(schema, {"minItems": info.min_length, "maxItems": info.max_length}, path)
            keys = schema.get("x-kubernetes-list-map-keys")
            if keys != (list(cast(tuple[str, ...], extra["unique_by"])) if "unique_by" in extra else None):
                yield f"{path}: list-map-keys"
            if (schema.get("x-kubernetes-list-type") == "set") != ("unique" in extra):
                yield f"{path}: list-type set"
            yield from _differences(cast(Schema, schema["items"]), info.item_type, path, _NONE)
        case "string":
            yield from _string_differences(schema, info, path)
        case "integer" if "enum" in schema:
            assert isinstance(info, inspect.LiteralType), path
            if list(info.values) != schema["enum"]:
                yield f"{path}: enum"
        case "integer":
            assert isinstance(info, inspect.IntType), path
            most = None if info.le == 2**31 - 1 else info.le
            yield from _bounds(schema, {"minimum": info.ge, "maximum": most}, path)
        case "boolean":
            assert isinstance(info, inspect.BoolType), path
        case other:
            yield f"{path}: type {other}"


_NONE = object()


def _same_default(theirs: object, info: inspect.Type, ours: object) -> bool:
    """Defaults are equal if they decode as the same: ours are left out where theirs are spelled out."""
    if isinstance(info, inspect.StructType):
        return bool(msgspec.convert(theirs, info.cls) == msgspec.convert(ours, info.cls))
    if isinstance(info, inspect.VarTupleType) and isinstance(info.item_type, inspect.StructType):
        wanted = tuple[info.item_type.cls, ...]  # type: ignore[name-defined] # a type made at run time
        return bool(msgspec.convert(theirs, wanted) == msgspec.convert(ours, wanted))
    return theirs == ours


def _object_differences(schema: Schema, info: inspect.Type, path: str) -> Iterator[str]:
    assert isinstance(info, inspect.StructType), path
    properties = cast(Mapping[str, Schema], schema["properties"])
    required = cast(list[str], schema.get("required", []))
    ours = {field.encode_name: field for field in info.fields}
    for name in properties.keys() - ours.keys():
        if path or name not in ("apiVersion", "kind", "metadata", "status"):
            yield f"{path}.{name}: missing"
    for name in ours.keys() - properties.keys():
        yield f"{path}.{name}: unknown to the API"
    for name in sorted(properties.keys() & ours.keys() - {"metadata"}):
        field, below = ours[name], f"{path}.{name}".lstrip(".")
        if field.required != (name in required):
            yield f"{below}: required"
        default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
        yield from _differences(properties[name], field.type, below, default)


def _bounds(schema: Schema, ours: Mapping[str, object], path: str) -> Iterator[str]:
    for name, value in ours.items():
        if schema.get(name) != value and not (name in ("minItems", "minLength") and not schema.get(name) and not value):
            yield f"{path}: {name}"


def _string_differences(schema: Schema, info: inspect.Type, path: str) -> Iterator[str]:
    if "enum" in schema:
        assert isinstance(info, inspect.EnumType), path
        if [member.value for member in info.cls] != schema["enum"]:
            yield f"{path}: enum {[member.value for member in info.cls]}, theirs {schema['enum']}"
        return
    if isinstance(info, inspect.EnumType):
        if not path.endswith(UNBOUNDED):
            yield f"{path}: enum"
        return
    if isinstance(info, inspect.StrType):
        yield from _bounds(schema, {"minLength": info.min_length, "maxLength": info.max_length}, path)
    theirs = schema.get("pattern")
    for sample in SAMPLES:
        # `$` of the API server's engine is the very end.
        wanted = theirs is None or re.search(re.sub(r"\$(?=$|\||\))", r"\\Z", str(theirs)), sample) is not None
        if wanted != _takes(info, sample):
            yield f"{path}: pattern judges {sample!r} differently"


def _takes(info: inspect.Type, sample: str) -> bool:
    if isinstance(info, inspect.StrType):
        return info.pattern is None or re.search(info.pattern, sample) is not None
    assert isinstance(info, inspect.CustomType)
    try:
        msgspec.convert(sample, info.cls, dec_hook=decode_hook)
    except msgspec.ValidationError:
        return False
    return True


CASES = sorted(_versions())


@needs_module
def test_every_kind_and_version_is_read() -> None:
    ours = {(kind.name, version) for kind in KINDS.values() if kind.group == GATEWAY_GROUP for version in kind.versions}
    assert ours == set(CASES)


@needs_module
@pytest.mark.parametrize(("kind", "version"), CASES)
def test_fields_bounds_and_defaults_are_those_of_the_definition(kind: str, version: str) -> None:
    schema = _versions()[kind, version]
    known = kind_of(f"{GATEWAY_GROUP}/{version}", kind)
    assert known is not None
    found = {
        f"{kind} {version} {difference}"
        for difference in _differences(schema, inspect.type_info(known.struct), "", _NONE)
    }
    expected = {name for name in DIFFERENT_ON_PURPOSE if name.startswith(f"{kind} {version} ")}
    assert found == expected


def test_structs_of_all_kinds_are_parts() -> None:
    assert all(issubclass(kind.struct, Part) for kind in KINDS.values())


def _field_paths(schema: Schema, path: str = "") -> Iterator[str]:
    for name, below in cast(Mapping[str, Schema], schema.get("properties", {})).items():
        if path or name == "spec":
            yield f"{path}.{name}"
            yield from _field_paths(below, f"{path}.{name}")
    if "items" in schema:
        yield from _field_paths(cast(Schema, schema["items"]), path)


def _experimental_paths(struct: type[Part], path: str = "") -> Iterator[str]:
    own = EXPERIMENTAL_FIELDS.get(struct, frozenset())
    for field in fields.fields_of(struct):
        below = f"{path}.{field.encode_name}"
        target, _ = fields.struct_of(field.type)
        if field.encode_name in own:
            yield below
        elif target is not None:
            yield from _experimental_paths(target, below)


@needs_module
@pytest.mark.parametrize("kind", sorted({kind for kind, _ in CASES}))
def test_experimental_fields_are_those_that_the_standard_channel_lacks(kind: str) -> None:
    standard = set(_field_paths(_versions("standard")[kind, "v1"]))
    experimental = set(_field_paths(_versions()[kind, "v1"]))
    new = {path for path in experimental - standard if path.rpartition(".")[0] in standard}
    assert set(_experimental_paths(KINDS[kind].struct)) == new
