"""From an Ingress's annotations to settings, with everything there is to say about them.

Each annotation under our prefix is looked up in the table: a value is parsed once, here; one that makes no sense
becomes a verdict and, as the entry says, its default or a refusal of the Ingress's paths. An annotation that somebody
relies on for protection and that has no effect yet refuses them too, unless the operator allows to ignore it.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from portway.model.edge import Edge
from portway.objects.verdict import ObjectKey, Severity, Verdict
from portway.translate.ingress.annotations.access import (
    ANY,
    CORS_ALLOW_CREDENTIALS,
    CORS_ALLOW_ORIGIN,
    ENABLE_CORS,
)
from portway.translate.ingress.annotations.entry import Annotation, OnInvalid, Settings, Unsupported
from portway.translate.ingress.annotations.paths import USE_REGEX
from portway.translate.ingress.annotations.stickiness import AFFINITY, SESSION_COOKIE_PATH
from portway.translate.ingress.annotations.table import BY_NAME, NAMES, UNSUPPORTED
from portway.translate.ingress.annotations.unsupported import changes_nothing, guarding_directive
from portway.translate.ingress.annotations.upstreams import BACKEND_PROTOCOL, BackendProtocol

MAX_VALUE_LENGTH: Final = 64 * 1024
"""Longer values are invalid unread. The API server allows 256 KiB for all annotations of an object together."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one Ingress's annotations say."""

    settings: Settings
    verdicts: tuple[Verdict, ...] = ()


def read_annotations(ingress: ObjectKey, annotations: Mapping[str, str], edge: Edge) -> Reading:
    """Parse the annotations under our prefix; others are none of our business."""
    prefix = f"{edge.annotation_prefix}/"
    ours = {
        key.removeprefix(prefix): trimmed
        for key, value in sorted(annotations.items())
        if key.startswith(prefix) and (trimmed := _trimmed(value))
    }
    values: dict[str, object] = {}
    denied: list[str] = []
    verdicts: list[Verdict] = []
    teller = _Teller(ingress, edge.annotation_prefix)
    for name, value in ours.items():
        if (entry := BY_NAME.get(name)) is not None:
            if entry.name != name and entry.name in ours:
                verdicts.append(teller.shadowed(name, entry))
                continue
            try:
                values[entry.name] = _parsed(entry, value)
                if entry.remark is not None and (remark := entry.remark(value)):
                    verdicts.append(teller.say(Severity.WARNING, "Annotation", name, *remark))
            except ValueError as error:
                verdicts.append(teller.invalid(name, value, entry, str(error)))
                if entry.on_invalid is OnInvalid.DENY:
                    denied.append(f"annotation {name} is invalid")
        elif (unsupported := UNSUPPORTED.get(name)) is not None:
            if changes_nothing(unsupported, value):
                continue
            if _is_judged(unsupported.belongs_to, ours):
                verdicts.append(teller.belonging(unsupported))
                continue
            why = guarding_directive(unsupported, value)
            refused = bool(why) and name not in edge.allow_unsupported
            if refused:
                verdicts.append(teller.refused(unsupported, why, [other for other in ours if _belongs(other, name)]))
                denied.append(f"annotation {name} is not supported")
            else:
                verdicts.append(teller.unsupported(unsupported))
        else:
            verdicts.append(teller.unknown(name))
    if values.get(BACKEND_PROTOCOL.name) is BackendProtocol.FCGI:
        verdicts.append(teller.refused_protocol())
        denied.append("FastCGI is not supported")
    settings = Settings(values=values, denied=tuple(denied))
    verdicts.extend(_combinations(teller, settings))
    verdicts.extend(_cookie_path(teller, settings))
    verdicts.extend(_credentials(teller, settings))
    return Reading(settings=settings, verdicts=tuple(verdicts))


def annotation_field(prefix: str, name: str) -> str:
    """Path of an annotation of ours in the Ingress."""
    return f'metadata.annotations["{prefix}/{name}"]'


def _trimmed(value: str) -> str:
    """Each line trimmed, as ingress-nginx does before it looks at a value."""
    return "\n".join(line.strip(" \t") for line in value.split("\n")).strip()


def _is_judged(name: str, ours: Mapping[str, str]) -> bool:
    entry = UNSUPPORTED.get(name)
    return entry is not None and name in ours and not changes_nothing(entry, ours[name])


def _belongs(name: str, to: str) -> bool:
    entry = UNSUPPORTED.get(name)
    return entry is not None and entry.belongs_to == to


def _parsed(entry: Annotation[object], value: str) -> object:
    if len(value) > MAX_VALUE_LENGTH:
        raise ValueError(f"it has {len(value):,} characters, at most {MAX_VALUE_LENGTH:,} are read")
    found = _CONTROL.search(value)
    if found:
        raise ValueError(f"it has the control character U+{ord(found[0]):04X} at position {found.start()}")
    return entry.parse(value)


class _Teller:
    """Makes the verdicts about one Ingress's annotations."""

    def __init__(self, ingress: ObjectKey, prefix: str) -> None:
        self.ingress = ingress
        self.prefix = prefix

    def say(self, severity: Severity, reason: str, name: str, problem: str, remedy: str) -> Verdict:
        return Verdict(
            object=self.ingress,
            severity=severity,
            reason=reason,
            field=annotation_field(self.prefix, name),
            problem=problem,
            remedy=remedy,
        )

    def invalid(self, name: str, value: str, entry: Annotation[object], detail: str) -> Verdict:
        shown = value if len(value) <= 60 else f"{value[:57]}..."
        problem = f'"{shown}" is not {entry.form}' + (f" ({detail})" if detail else "")
        if entry.on_invalid is OnInvalid.DENY:
            problem += "; until it is, the paths of this Ingress answer 503"
        else:
            problem += f"; until it is, the default applies: {describe_default(entry)}"
        return self.say(Severity.ERROR, "InvalidAnnotation", name, problem, f'write for example "{entry.example}"')

    def shadowed(self, name: str, entry: Annotation[object]) -> Verdict:
        problem = f"has no effect: it is another name of {entry.name}, which is set too"
        return self.say(Severity.WARNING, "AnnotationIgnored", name, problem, "remove one of the two")

    def unsupported(self, entry: Unsupported) -> Verdict:
        if entry.harmless:
            return self.say(Severity.INFO, "AnnotationIgnored", entry.name, f"has no effect: {entry.text}", "remove it")
        problem = f"has no effect yet (risk: {entry.risk}): {entry.text}"
        return self.say(Severity.WARNING, "UnsupportedAnnotation", entry.name, problem, "remove it if it is not needed")

    def refused(self, entry: Unsupported, why: str, belonging: Sequence[str]) -> Verdict:
        problem = (
            f"has no effect yet (risk: {entry.risk}): {entry.text}; since {why}, the paths of this Ingress answer 503"
        )
        # Not "remove it" at once: that would publish what was closed.
        remedy = (
            f"only if something else protects these paths, remove it{_together(belonging)}, or let the operator ignore"
            f" it with --allow-unsupported {entry.name}"
        )
        return self.say(Severity.ERROR, "UnsupportedAnnotation", entry.name, problem, remedy)

    def belonging(self, entry: Unsupported) -> Verdict:
        problem = f"has no effect yet (risk: {entry.risk}), as {entry.belongs_to}, which it belongs to"
        return self.say(Severity.INFO, "UnsupportedAnnotation", entry.name, problem, f"see {entry.belongs_to}")

    def refused_protocol(self) -> Verdict:
        return self.say(
            Severity.ERROR,
            "UnsupportedAnnotation",
            BACKEND_PROTOCOL.name,
            "FastCGI is not spoken; the paths of this Ingress answer 503",
            "put a server that speaks HTTP in front of the application, in its pod",
        )

    def unknown(self, name: str) -> Verdict:
        near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.75)
        remedy = f"did you mean {near[0]}?" if near else "remove it"
        return self.say(
            Severity.WARNING, "UnknownAnnotation", name, "is no annotation of ingress-nginx: no effect", remedy
        )


def _together(names: Sequence[str]) -> str:
    return f" together with {', '.join(names)}" if names else ""


def describe_default(entry: Annotation[object]) -> str:
    """The default as it is named in messages and on the reference page."""
    if entry.default_text:
        return entry.default_text
    match entry.default:
        case bool(value):
            return str(value).lower()
        case value:
            return str(value)


_NEEDS: Final = (
    # (what needs, what it needs): without the second the first has no effect.
    ("canary-", "canary"),
    ("session-cookie-", "affinity"),
    ("affinity-mode", "affinity"),
    ("cors-", "enable-cors"),
    ("permanent-redirect-code", "permanent-redirect"),
    ("temporal-redirect-code", "temporal-redirect"),
    ("x-forwarded-prefix", "rewrite-target"),
)


def _cookie_path(teller: _Teller, settings: Settings) -> Iterator[Verdict]:
    if settings.get(AFFINITY) and settings.get(USE_REGEX) and not settings.has(SESSION_COOKIE_PATH):
        problem = "use-regex makes the path a regular expression, which becomes the Path of the cookie"
        yield teller.say(Severity.WARNING, "CookiePath", AFFINITY.name, problem, "set session-cookie-path")


def _credentials(teller: _Teller, settings: Settings) -> Iterator[Verdict]:
    if settings.get(ENABLE_CORS) and settings.get(CORS_ALLOW_ORIGIN) == ANY and settings.get(CORS_ALLOW_CREDENTIALS):
        problem = "every origin is allowed, with credentials, which browsers refuse for requests with cookies"
        remedy = "name the origins in cors-allow-origin, or set cors-allow-credentials to false"
        yield teller.say(Severity.INFO, "Annotation", ENABLE_CORS.name, problem, remedy)


def _combinations(teller: _Teller, settings: Settings) -> Iterator[Verdict]:
    """Annotations that have no effect because of another one that is not there."""
    for name in settings.values:
        needed = next((needed for start, needed in _NEEDS if name.startswith(start) and name != needed), None)
        if needed is not None and not settings.values.get(needed):
            problem = f"has no effect without {needed}"
            yield teller.say(Severity.WARNING, "AnnotationIgnored", name, problem, f"set {needed} too, or remove it")
