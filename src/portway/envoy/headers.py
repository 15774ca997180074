"""Header edits: what a route, host, table or share changes in requests and responses.

Envoy removes before it adds, and applies the levels from the outermost (table) to the innermost (route), since our
route configurations say `most_specific_header_mutations_wins`. Only the share of a route comes first whatever is said;
where a share has edits, those of its route and host go with it (`composed`), so that a backend's own edit has the last
word, as Gateway API orders filters. Text of users is literal: `%` starts a command operator in Envoy, so it is doubled.
"""

from typing import Protocol

from envoy.config.core.v3 import base_pb2 as basev3
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer, RepeatedScalarFieldContainer

from portway.model.route import HeaderEdits

_SET = basev3.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
APPEND = basev3.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
_IF_ABSENT = basev3.HeaderValueOption.ADD_IF_ABSENT


class Edited(Protocol):
    """Messages that carry edits: virtual host, route, share, route configuration."""

    @property
    def request_headers_to_add(self) -> RepeatedCompositeFieldContainer[basev3.HeaderValueOption]: ...
    @property
    def request_headers_to_remove(self) -> RepeatedScalarFieldContainer[str]: ...
    @property
    def response_headers_to_add(self) -> RepeatedCompositeFieldContainer[basev3.HeaderValueOption]: ...
    @property
    def response_headers_to_remove(self) -> RepeatedScalarFieldContainer[str]: ...


def literal(text: str) -> str:
    """Text in which Envoy finds no command operator."""
    return text.replace("%", "%%")


def apply_edits(message: Edited, request: HeaderEdits, response: HeaderEdits) -> None:
    """Write the edits into a message; nothing is written for none."""
    if request:
        message.request_headers_to_remove.extend(request.remove)
        message.request_headers_to_add.extend(_additions(request))
    if response:
        message.response_headers_to_remove.extend(response.remove)
        message.response_headers_to_add.extend(_additions(response))


def composed(first: HeaderEdits, then: HeaderEdits) -> HeaderEdits:
    """One set of edits with the effect of both, one after the other."""
    if not first or not then:
        return first or then
    replaced = _names(then.set) | _names(then.formatted) | {name.lower() for name in then.remove}

    def kept(edits: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        return tuple(edit for edit in edits if edit[0].lower() not in replaced)

    return HeaderEdits(
        set=kept(first.set) + then.set,
        formatted=kept(first.formatted) + then.formatted,
        if_absent=kept(first.if_absent) + then.if_absent,
        add=kept(first.add) + then.add,
        remove=first.remove + then.remove,
    )


def _names(edits: tuple[tuple[str, str], ...]) -> set[str]:
    return {name.lower() for name, _ in edits}


def header_option(
    name: str, value: str, *, action: "basev3.HeaderValueOption.HeaderAppendAction.ValueType" = _SET
) -> basev3.HeaderValueOption:
    """One addition; `value` may hold command operators. An empty value is kept: the user wrote it."""
    return basev3.HeaderValueOption(
        header=basev3.HeaderValue(key=name, value=value),
        append_action=action,
        keep_empty_value=not value,
    )


def _additions(edits: HeaderEdits) -> list[basev3.HeaderValueOption]:
    return [
        *(header_option(name, literal(value)) for name, value in edits.set),
        *(header_option(name, value) for name, value in edits.formatted),
        *(header_option(name, literal(value), action=APPEND) for name, value in edits.add),
        *(header_option(name, value, action=_IF_ABSENT) for name, value in edits.if_absent),
    ]
