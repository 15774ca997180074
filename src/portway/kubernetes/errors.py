"""What can go wrong between us and an API server, and how it is told.

    ApiError            the server answered, and said no; `status` and `reason` are its own
    ApiUnreachable      there was no answer, or none that can be read
    ConnectionProblem   we do not know where the server is or who we are: kubeconfig, token, certificate

Each message names the server or the path, what is wrong, and what to do. None holds a token, key or body of ours.

Source: Kubernetes API conventions, "Response Status Kind", "Error codes".
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from portway.kubernetes.paths import Target, target_of

_LONGEST: Final = 600
"""Characters of a server's message that are shown; the rest of a long list of causes tells nothing more."""


class ConnectionProblem(Exception):
    """The kubeconfig, or what the pod was given, cannot be used. The message names the file and what to do."""


class ApiUnreachable(Exception):
    """No answer: refused, timed out, TLS failure, cut off in the middle. The message names the server and why."""


class ApiError(Exception):
    """The server refused a request.

    `str()` names verb, path, status, reason, the server's message and what to do.
    """

    def __init__(
        self, verb: str, path: str, status: int, reason: str, message: str, retry_after: float | None = None
    ) -> None:
        """
        Args:
            verb: as RBAC calls it: get, list, watch, create, update, patch, delete.
            reason: `Status.reason`, such as `Conflict` or `Expired`; empty if the answer was no `Status`.
            retry_after: seconds that the server asks us to wait.
        """
        self.verb = verb
        self.path = path
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        super().__init__(verb, path, status)

    def __str__(self) -> str:
        said = f"{self.verb} {self.path}: {self.status} {self.reason}".rstrip()
        return ": ".join(part for part in (said, _short(self.message)) if part) + f"; {self.remedy}"

    @property
    def is_of_absent_object(self) -> bool:
        """Whether there is no such object, of a kind that there is. With any other 404 the server has nothing at the
        path: no such kind, or not in this version.

        Source: apimachinery, `errors.NewNotFound`; the API server's handler for other paths says `404 page not found`.
        """
        return self.status == 404 and f'"{target_of(self.path).name}" not found' in self.message

    @property
    def is_of_ending_namespace(self) -> bool:
        """Whether nothing can be made because the namespace is being deleted, or is gone: nobody's mistake, and soon
        over, if what was to be made goes with it."""
        return (self.status == 403 and "because it is being terminated" in self.message) or self._has_no_namespace

    @property
    def _has_no_namespace(self) -> bool:
        return self.status == 404 and self.message.startswith('namespaces "') and self.message.endswith("not found")

    @property
    def remedy(self) -> str:
        """What somebody can do about it, in one sentence."""
        if self._has_no_namespace:
            return "create the namespace, unless it has just been deleted"
        if self.is_of_ending_namespace:
            return "nothing needs to be done: its namespace is being deleted"
        if self.status == 403 and self.reason in ("Forbidden", ""):
            return missing_rule(self.verb, target_of(self.path))
        return _REMEDIES.get(self.status, _LATER if self.status >= 500 else "look at what was sent")


_LATER: Final = "it is tried again; look at the API server's log if it stays so"
_REMEDIES: Final[Mapping[int, str]] = {
    400: "look at what was sent, and at the API server's version",
    401: "the token or client certificate is not accepted (any more): renew it",
    404: "create it, or install the CustomResourceDefinition of its kind",
    405: "the server does not offer this: look at its version",
    409: "it has changed meanwhile: read it again and repeat",
    410: "the version is too old: list again",
    413: "make the object smaller",
    422: "mend the fields that it names",
    429: "it is tried again after the time that the server asks for",
}


def missing_rule(verb: str, target: Target) -> str:
    """The RBAC rule that allows a request, as one adds it to a Role.

    `add the rule {apiGroups: ["gateway.networking.k8s.io"], resources: ["httproutes"], verbs: ["list", "watch"]} to a
    ClusterRole that is bound to this user`
    """
    if not target.resource:
        return f'add the rule {{nonResourceURLs: ["{target.path}"], verbs: ["{verb}"]}} to a ClusterRole of this user'
    verbs = '"list", "watch"' if verb in ("list", "watch") else f'"{verb}"'
    resource = f"{target.resource}/{target.subresource}" if target.subresource else target.resource
    rule = f'{{apiGroups: ["{target.group}"], resources: ["{resource}"], verbs: [{verbs}]}}'
    role = f"Role in the namespace {target.namespace}" if target.namespace else "ClusterRole"
    return f"add the rule {rule} to a {role} that is bound to this user"


def _short(message: str) -> str:
    flat = " ".join(message.split())
    return flat if len(flat) <= _LONGEST else f"{flat[: _LONGEST - 3]}..."


class _Details(msgspec.Struct, frozen=True, rename="camel"):
    retry_after_seconds: float = 0


class _Status(msgspec.Struct, frozen=True):
    message: str = ""
    reason: str = ""
    code: int = 0
    details: _Details | None = None


_STATUS: Final = msgspec.json.Decoder(_Status)


def error_of(verb: str, path: str, status: int, retry_after: str, body: bytes) -> ApiError:
    """The error that an answer is.

    Args:
        status: of the answer; 0: what the body's `Status` says (in a watch the errors come inside).
        retry_after: the header's value; empty if there is none.
        body: a `Status` in JSON, or anything (a proxy between may answer in HTML).
    """
    try:
        said = _STATUS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = _Status(message=body[:_LONGEST].decode(errors="replace"))
    wait: float | None = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None
    if wait is None and said.details is not None and said.details.retry_after_seconds > 0:
        wait = said.details.retry_after_seconds
    return ApiError(verb, path, status or said.code, said.reason, said.message, wait)
