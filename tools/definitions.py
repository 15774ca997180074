"""CustomResourceDefinitions of Portway's own kinds, made from the structs that decode them.

Types, bounds, patterns, enumerations, defaults and unique keys come from the annotations, texts from the docstrings
under fields, rules between fields from `tools/definition_rules.py`. A default is written where Portway has one other
than "nothing", so that `kubectl get -o yaml` shows what holds. Lists without a key are atomic: an entry alone means
nothing.

Source: Kubernetes, "Extend the Kubernetes API with CustomResourceDefinitions" (structural schemas), "API conventions".
"""

import ast
import inspect as python_inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from functools import cache
from itertools import pairwise
from typing import Final, NamedTuple, cast

import msgspec
from msgspec import inspect

from portway.objects.fields import bare, fields_of
from portway.objects.kinds import KINDS
from portway.objects.meta import Meta, Part
from portway.objects.portway_v1alpha1 import PORTWAY_GROUP
from portway.objects.scalars import INT32_MAX, Duration, encode_hook
from portway.settings import field_texts
from portway.status.ledger import WRITTEN_KINDS
from tools.definition_rules import RULES, Rule, for_go

Data = dict[str, object]

DURATION: Final = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"
"""GEP-2257; `portway.objects.durations` reads the same."""


class Column(NamedTuple):
    """A column of `kubectl get`."""

    name: str
    path: str
    type: str = "string"


class Definition(NamedTuple):
    """What there is to say of a kind beside its struct."""

    kind: str
    short_names: tuple[str, ...]
    columns: tuple[Column, ...]
    labels: Mapping[str, str] = {}


_ACCEPTED: Final = Column("Accepted", '.status.conditions[?(@.type=="Accepted")].status')
_AGE: Final = Column("Age", ".metadata.creationTimestamp", "date")
DEFINITIONS: Final = (
    Definition("Backend", ("pwbackend",), (Column("DNS", ".spec.dns.name"), _ACCEPTED, _AGE)),
    Definition(
        "UpstreamPolicy",
        ("upstreampol",),
        (Column("Targets", ".spec.targetRefs[*].name"), _ACCEPTED, _AGE),
        {"gateway.networking.k8s.io/policy": "Direct"},
    ),
    Definition(
        "FleetParameters",
        ("fleet",),
        (Column("Workload", ".spec.workload.type"), Column("Service", ".spec.service.type"), _AGE),
    ),
)


def definition_of(definition: Definition) -> Data:
    """The CustomResourceDefinition of a kind."""
    kind = KINDS[definition.kind]
    schema = _struct(kind.struct)
    properties = cast(Data, schema["properties"])
    schema["properties"] = {
        "apiVersion": {"type": "string", "description": "Version of the object's schema."},
        "kind": {"type": "string", "description": "Kind of the object."},
        **properties,
        **({"status": _status()} if kind.name in WRITTEN_KINDS else {}),
    }
    version: Data = {
        "name": kind.versions[0],
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [
            {"name": column.name, "type": column.type, "jsonPath": column.path} for column in definition.columns
        ],
        "schema": {"openAPIV3Schema": schema},
    }
    if kind.name in WRITTEN_KINDS:
        version["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{kind.group}",
            "labels": {"app.kubernetes.io/name": "portway", **definition.labels},
        },
        "spec": {
            "group": PORTWAY_GROUP,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": list(definition.short_names),
                "categories": ["portway"],
            },
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [version],
        },
    }


def _struct(struct: type[Part]) -> Data:
    texts = field_texts(struct)
    properties: Data = {}
    required: list[str] = []
    for field in fields_of(struct):
        # The API server checks metadata by itself; its schema may say no more.
        properties[field.encode_name] = (
            {"type": "object"} if struct_in(field.type) is Meta else _field(field, texts.get(field.name, ""))
        )
        if field.required:
            required.append(field.encode_name)
    made: Data = {"type": "object", "description": words(struct.__doc__ or ""), "properties": properties}
    if required:
        made["required"] = required
    return made | _validations(RULES.get(struct, ()))


def struct_in(info: inspect.Type) -> type[Part] | None:
    """The struct that a field holds by itself."""
    found, _ = bare(info)
    return cast(type[Part], found.cls) if isinstance(found, inspect.StructType) else None


def _field(field: inspect.Field, text: str) -> Data:
    made = _schema(field.type)
    about = cast(str, made.pop("description", ""))
    described = {"description": f"{words(text)}\n{about}".strip()} if text or about else {}
    default = _default(field)
    return {**described, **made, **({} if default is None else {"default": default})}


def _default(field: inspect.Field) -> object:
    """A default other than "nothing"; that of a struct is filled with its fields' own by the API server."""
    default = field.default
    if default is msgspec.NODEFAULT or default in (None, (), ""):
        return None
    if isinstance(default, Part):
        return {}
    return msgspec.to_builtins(default, enc_hook=encode_hook)


def _schema(info: inspect.Type) -> Data:
    """The schema of a type, `None` aside, with what its annotations say."""
    said: Data = {}
    bare_info, extra = bare(info)
    while info is not bare_info:
        if isinstance(info, inspect.Metadata):
            said = {**(info.extra_json_schema or {}), **said}
            info = info.type
        else:
            info = next(option for option in cast(inspect.UnionType, info).types if not isinstance(option, _NONE))
    described = words(str(said.pop("description", "")))
    if "pattern" in said:
        said["pattern"] = for_go(cast(str, said["pattern"]))
    made = {**_of_type(bare_info, extra), **said}
    if described and "description" not in made:
        made["description"] = f"Allowed: {described}."
    return made


_NONE: Final = inspect.NoneType


def _of_type(info: inspect.Type, extra: Mapping[str, object]) -> Data:
    match info:
        case inspect.StructType():
            return _struct(cast(type[Part], info.cls))
        case inspect.VarTupleType():
            return _list(info, extra)
        case inspect.DictType():
            bounds = _given(maxProperties=info.max_length)
            return {"type": "object", "additionalProperties": _schema(info.value_type), **bounds}
        case inspect.StrType():
            pattern = None if info.pattern is None else for_go(info.pattern)
            bounds = _given(minLength=info.min_length, maxLength=info.max_length, pattern=pattern)
            return {"type": "string", **bounds}
        case inspect.IntType():
            is_small = info.le is not None and info.le <= INT32_MAX
            bounds = _given(minimum=info.ge, maximum=info.le)
            return {"type": "integer", "format": "int32" if is_small else "int64", **bounds}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.EnumType():
            values = [str(member.value) for member in info.cls]
            return {"type": "string", "enum": values, "description": _choices(info.cls)}
        case inspect.UnionType():
            either = [{"type": "integer"}, {"type": "string"}]
            return {"x-kubernetes-int-or-string": True, "anyOf": either}
        case inspect.CustomType(cls=cls) if cls is Duration:
            return {"type": "string", "pattern": DURATION, "description": "A duration such as 10s or 1m30s."}
        case _:
            raise NotImplementedError(f"no schema for {info}")


def _list(info: inspect.VarTupleType, extra: Mapping[str, object]) -> Data:
    made: Data = {"type": "array", "items": _schema(info.item_type)}
    made |= _given(minItems=info.min_length, maxItems=info.max_length)
    if "unique_by" in extra:
        keys = list(cast(Sequence[str], extra["unique_by"]))
        return {**made, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys}
    return {**made, "x-kubernetes-list-type": "set" if "unique" in extra else "atomic"}


def _given(**values: object) -> Data:
    return {name: value for name, value in values.items() if value is not None}


def _validations(rules: Sequence[Rule]) -> Data:
    if not rules:
        return {}
    return {"x-kubernetes-validations": [{"rule": rule.rule, "message": rule.message} for rule in rules]}


def _choices(kind: type[Enum]) -> str:
    """What an enumeration and its members are for."""
    texts = _member_texts(kind)
    about = [f"{member.value}: {texts[member.name]}" for member in kind if member.name in texts]
    return "\n".join([words(kind.__doc__ or ""), *about])


@cache
def _member_texts(kind: type[Enum]) -> Mapping[str, str]:
    """The strings under the members, by name."""
    module = ast.parse(python_inspect.getsource(sys.modules[kind.__module__]))
    body = next(node.body for node in module.body if isinstance(node, ast.ClassDef) and node.name == kind.__name__)
    return dict(_texts_under(body))


def _texts_under(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for declaration, text in pairwise(body):
        if isinstance(declaration, ast.Assign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            (target,) = declaration.targets
            yield cast(ast.Name, target).id, words(str(text.value.value))


_FIELD: Final = re.compile(r"`([a-z0-9]+(?:_[a-z0-9]+)+)`")


def words(text: str) -> str:
    """A docstring as those read it who write YAML: "not set" instead of `None`, fields in their spelling there."""
    plain = " ".join(text.split())
    plain = re.sub(r"(^|[.] )None:", r"\1Not set:", plain)
    plain = re.sub(r"; None:", "; not set:", plain).replace("None or 0:", "Not set or 0:")
    return _FIELD.sub(lambda found: f"`{_camel(found[1])}`", plain)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _status() -> Data:
    """What becomes of an object: `metav1.Condition`s."""
    condition: Data = {
        "type": "object",
        "description": "One thing that is so, or is not.",
        "required": ["type", "status", "lastTransitionTime", "reason", "message"],
        "properties": {
            "type": {"type": "string", "maxLength": 316, "description": "Name of the condition."},
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "observedGeneration": {
                "type": "integer",
                "format": "int64",
                "minimum": 0,
                "description": "Generation of the object that it is about.",
            },
            "lastTransitionTime": {"type": "string", "format": "date-time", "description": "Of its status."},
            "reason": {
                "type": "string",
                "minLength": 1,
                "maxLength": 1024,
                "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                "description": "Why, in one word.",
            },
            "message": {"type": "string", "maxLength": 32768, "description": "Why, and what to do."},
        },
    }
    conditions: Data = {
        "type": "array",
        "maxItems": 8,
        "items": condition,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "description": "Accepted: whether the object is in force.",
    }
    described = "What becomes of the object; written by Portway."
    return {"type": "object", "description": described, "properties": {"conditions": conditions}}
