"""Runs tables of rules over objects.

Which fields of a struct lead to structs with rules is found once per struct; a check of an object then visits only
those, and never a branch that is still at its default.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeVar, cast

from msgspec import inspect

from portway.objects.fields import bare, fields_of, struct_of
from portway.objects.meta import Part
from portway.objects.problems import Path, Problem, duplicates, shown

P = TypeVar("P", bound=Part)

Check = Callable[[Part], Iterable[Problem]]
"""Says what is wrong in one struct; paths begin below it."""

Table = Mapping[type[Part], tuple[Check, ...]]


def rules(struct: type[P], *checks: Callable[[P], Iterable[Problem]]) -> tuple[type[Part], tuple[Check, ...]]:
    """One entry of a table: the checks of a struct."""
    return struct, cast(tuple[Check, ...], checks)


def merged(*tables: Table) -> Table:
    """One table out of several; checks of the same struct are put one after the other."""
    found: dict[type[Part], tuple[Check, ...]] = {}
    for table in tables:
        for struct, checks in table.items():
            found[struct] = found.get(struct, ()) + checks
    return found


class Child(NamedTuple):
    """A field that leads to rules."""

    attribute: str
    name: str
    good: object
    """The default, if it is right: such a branch needs no visit."""
    plan: "Plan"
    many: bool


class Plan:
    """What there is to do for one type of struct."""

    __slots__ = ("checks", "children")

    def __init__(self, checks: tuple[Check, ...], children: tuple[Child, ...]) -> None:
        self.checks = checks
        self.children = children


class Checker:
    """Checks objects by one table of rules."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._plans: dict[type[Part], Plan] = {}

    def check(self, node: Part) -> list[Problem]:
        """What is wrong in a struct and everything below it, the outer first."""
        found: list[Problem] = []
        _visit(node, self._plan(type(node)), found)
        return found

    def _plan(self, struct: type[Part]) -> Plan:
        plan = self._plans.get(struct)
        if plan is None:
            plan = self._plans[struct] = self._make(struct)
        return plan

    def _make(self, struct: type[Part]) -> Plan:
        checks = list(self._table.get(struct, ()))
        children: list[Child] = []
        for field in fields_of(struct):
            target, many = struct_of(field.type)
            if target is not None:
                plan = self._plan(target)
                if plan.checks or plan.children:
                    good = _good_default(field.default, plan, many)
                    children.append(Child(field.name, field.encode_name, good, plan, many))
        return Plan(tuple(checks), tuple(children))


def _visit(node: Part, plan: Plan, found: list[Problem]) -> None:
    for check in plan.checks:
        found.extend(check(node))
    for attribute, name, good, child, many in plan.children:
        value = getattr(node, attribute)
        if value is good or value is None:
            continue
        if many:
            for index, item in enumerate(value):
                before = len(found)
                _visit(item, child, found)
                if len(found) > before:
                    lower(found, before, (name, index))
        else:
            before = len(found)
            _visit(value, child, found)
            if len(found) > before:
                lower(found, before, (name,))


def _good_default(default: object, plan: Plan, many: bool) -> object:
    """The default if all rules take it. Not every one is right: an IngressClass without spec lacks its controller."""
    found: list[Problem] = []
    items = default if many else (default,)
    for item in items if isinstance(items, tuple) else ():
        if isinstance(item, Part):
            _visit(item, plan, found)
    return None if found else default


def lower(found: list[Problem], start: int, step: Path) -> None:
    """Put a step before the paths of the problems from `start` on: paths are built only where something is wrong."""
    found[start:] = [problem._replace(path=step + problem.path) for problem in found[start:]]


def uniqueness(structs: Iterable[type[Part]]) -> Table:
    """Rules for all list fields whose type says `unique` or `unique_by`, in these structs and below."""
    table: dict[type[Part], tuple[Check, ...]] = {}
    todo = list(structs)
    while todo:
        struct = todo.pop()
        if struct in table:
            continue
        table[struct] = ()
        for field in fields_of(struct):
            _, extra = bare(field.type)
            if "unique_by" in extra or "unique" in extra:
                table[struct] += (_unique_check(field, cast(tuple[str, ...], extra.get("unique_by", ()))),)
            target, _ = struct_of(field.type)
            if target is not None:
                todo.append(target)
    return {struct: checks for struct, checks in table.items() if checks}


def _unique_check(field: inspect.Field, keys: tuple[str, ...]) -> Check:
    attribute, name = field.name, field.encode_name

    def check(node: Part) -> Iterable[Problem]:
        values = getattr(node, attribute)
        if values is None or len(values) < 2:
            return
        compared = [tuple(getattr(value, key) for key in keys) for value in values] if keys else values
        for index, first, value in duplicates(compared):
            found = ", ".join(shown(part) for part in cast(tuple[object, ...], value)) if keys else shown(value)
            path: Path = (name, index, keys[0]) if len(keys) == 1 else (name, index)
            yield Problem(path, f"{found} is there already, as {name}[{first}]", "remove one of the two")

    return check
