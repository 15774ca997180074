"""Requests that look for the edges of a configuration, and whether a real answer is one that `explain` foresaw."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import final

import msgspec

from portway.explain.request import Request, make_request
from portway.explain.samples import samples
from portway.explain.trace import Explanation, Outcome, World
from portway.model.listener import HttpHandler
from tests.explain.generated import FIELDS, HOSTS, PATHS, VALUES
from tests.kit.answer import Answer

OURS = frozenset({*FIELDS, "x-e", "x-forwarded-prefix", "x-original-uri", "x-code", "x-service-name"})
"""Fields whose values are compared: those that declarations of the universe name."""
ANSWERED = frozenset({*FIELDS, "access-control-allow-origin", "access-control-allow-credentials"})


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A request, as it is sent and as `explain` is asked about it."""

    method: str
    scheme: str
    port: int
    """As declared."""
    authority: str
    server_name: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        fields = "".join(f" -H '{name}: {value}'" for name, value in self.headers)
        sni = f" --sni {self.server_name}" if self.scheme == "https" else ""
        return f"{self.method} {self.scheme}://{self.authority} (port {self.port}) {self.target}{fields}{sni}"

    def request(self) -> Request:
        """The request for `explain`."""
        url = f"{self.scheme}://h.test:{self.port}{self.target}"
        headers = (("host", self.authority), *self.headers)
        return make_request(self.method, url, headers, server_name=self.server_name)


@final
class Asker:
    """Makes questions about one world."""

    def __init__(self, random: Random, world: World) -> None:
        self.random = random
        self.world = world

    def questions(self, count: int) -> Iterator[Question]:
        """Half of them around the edges of the routes that there are, half anything."""
        sampled = list(self._sampled())
        self.random.shuffle(sampled)
        for number in range(count):
            yield sampled[number // 2] if number % 2 and number // 2 < len(sampled) else self._any()

    def _sampled(self) -> Iterator[Question]:
        for socket in self.world.sockets:
            listener = self.world.listener(socket)
            for chain in listener.chains if listener is not None else ():
                if not isinstance(chain.handler, HttpHandler):
                    continue
                scheme = "https" if chain.tls is not None else "http"
                for domain, host in self.world.hosts(chain.handler.table).items():
                    name = domain.replace("*", "any") if domain != "*" else "any.test"
                    base = Request(host=name, port=socket.port, scheme=scheme)
                    for request in samples(host, base):
                        yield Question(
                            method=request.method,
                            scheme=scheme,
                            port=socket.port,
                            authority=name,
                            server_name=name,
                            target=request.target,
                            headers=request.headers,
                        )

    def _any(self) -> Question:
        random = self.random
        sockets = [(key.port, listener) for key in self.world.sockets if (listener := self.world.listener(key))]
        port, listener = random.choice(sockets) if sockets else (80, None)
        tls = listener is not None and any(chain.tls is not None for chain in listener.chains)
        if random.random() < 0.02:
            tls = not tls
        host = self._host()
        name = host if random.random() < 0.85 else self._host()
        return Question(
            method=random.choices(("GET", "POST", "OPTIONS", "HEAD", "DELETE"), (10, 2, 2, 1, 1))[0],
            scheme="https" if tls else "http",
            port=port,
            authority=self._spelt(host, port),
            server_name=name.rstrip("."),
            target=self._target(),
            headers=tuple(self._headers()),
        )

    def _host(self) -> str:
        names = [name.replace("*", self.random.choice(("any", "x.y", "www"))) for name in HOSTS]
        return self.random.choice([*names, "alias.test", "x.alias.test", "re12.test", "www.api.shop.test", "none.test"])

    def _spelt(self, host: str, port: int) -> str:
        spelt = self.random.choices((host, host.title(), host + "."), (16, 1, 1))[0]
        return spelt + self.random.choices(("", f":{port}", ":80", ":443", ":8080"), (12, 3, 1, 1, 1))[0]

    def _target(self) -> str:
        random = self.random
        path = random.choice(PATHS)
        for _ in range(random.choice((0, 0, 1, 1, 2))):
            path = self._bent(path)
        query = random.choices(
            ("", "?", "?q=1", "?q=2&q=1", "?Q=1&r=always", "?q=%31", "?r=a&x=/../y", "?q", "?a=b/"),
            (12, 1, 4, 2, 2, 1, 1, 1, 1),
        )[0]
        return path + query

    def _bent(self, path: str) -> str:
        random = self.random
        place = random.randint(1, len(path))
        return random.choice(
            (
                path + "/",
                path + "x",
                path + "/x",
                path.upper(),
                path + random.choice(("/..", "/.", "/../foo", "/./x", "/%2e%2e/v1")),
                path[:place]
                + random.choice(
                    (
                        "%2F",
                        "%20",
                        "%41",
                        "%",
                        "%zz",
                        "//",
                        "\\",
                        "%c3%a9",
                        ";a=b",
                        "|",
                        "%25",
                        "%%34%31",
                        "%%341",
                        "^",
                        "{}",
                        "[",
                        "`",
                        '"',
                        "<",
                        "'",
                        "~",
                        "%7e",
                    )
                )
                + path[place:],
                "/" + path,
                "/foo/bar/x1",
                "/v2/x",
                "/start",
            )
        )

    def _headers(self) -> Iterator[tuple[str, str]]:
        random = self.random
        for name in random.sample(FIELDS, random.choice((0, 0, 1, 2))):
            yield name, random.choice(VALUES)
            if random.random() < 0.15:
                yield name.title(), random.choice(VALUES)
        if random.random() < 0.15:
            yield (
                "cookie",
                random.choice(("canary=always", "a=b; canary=never", "c=always;canary=1", "canary", "c=never")),
            )
        if random.random() < 0.15:
            yield "origin", random.choice(("http://shop.test", "https://a.shop.test", "http://x.test", "null"))
            if random.random() < 0.1:
                yield "origin", "http://shop.test"
            if random.random() < 0.6:
                yield "access-control-request-method", "POST"
        if random.random() < 0.05:
            yield "x-forwarded-proto", random.choice(("http", "https"))
        if random.random() < 0.05:
            yield "content-type", "application/grpc"
        if random.random() < 0.05:
            yield "accept", "text/html"


def disagreement(found: Explanation, answer: Answer) -> str:
    """In what a real answer is none of those that were foreseen; empty: it is one of them."""
    problems = [_problem(outcome, answer, found.request) for outcome in found.outcomes if outcome.share > 0]
    return "" if "" in problems else " | ".join(problems)


def _problem(outcome: Outcome, answer: Answer, request: Request) -> str:
    if outcome.closed:
        return "" if answer.failure is not None else f"foreseen: {outcome.text}; but there was an answer"
    if answer.failure is not None:
        return f"foreseen: {outcome.text}; but the connection failed ({answer.failure})"
    if outcome.status:
        return _problem_of_answer(outcome, answer)
    service = (answer.pod or "").partition("/")[0]
    if outcome.upstream is None or service != outcome.upstream.name:
        return f"foreseen: {outcome.text}; but {service or 'the proxy'} answered with {answer.status}"
    if request.method == "HEAD":
        return ""
    echoed = answer.echoed()
    received = {name.lower(): values for name, values in echoed.headers.items()}
    if (echoed.path, echoed.host) != (outcome.target, outcome.host):
        return f"foreseen: {outcome.text}; but the upstream saw {echoed.host} {echoed.path}"
    wanted = _joined(outcome.request_headers)
    for name in sorted(OURS):
        seen = ",".join(received.get(name, ()))
        if seen.replace(" ", "") != wanted.get(name, "").replace(" ", ""):
            return f"foreseen {name}: {wanted.get(name)!r}; but the upstream saw {received.get(name)}"
    return _problem_of_fields(outcome, answer)


def _problem_of_answer(outcome: Outcome, answer: Answer) -> str:
    if answer.pod is not None:
        return f"foreseen: {outcome.text}; but {answer.pod} answered"
    if outcome.grpc_status is not None:
        seen = answer.status, answer.header("grpc-status")
        return "" if seen == (200, str(outcome.grpc_status)) else f"foreseen: {outcome.text}; but it is {seen}"
    if answer.status != outcome.status:
        return f"foreseen: {outcome.text}; but the status is {answer.status}"
    location = answer.header("location") or ""
    if location != outcome.location:
        return f"foreseen: {outcome.text}; but Location is {location!r}"
    return _problem_of_fields(outcome, answer)


def _problem_of_fields(outcome: Outcome, answer: Answer) -> str:
    wanted = _joined(outcome.response_headers)
    for name in sorted(ANSWERED):
        seen = ",".join(answer.header_values(name))
        if seen.replace(" ", "") != wanted.get(name, "").replace(" ", ""):
            return f"foreseen {name}: {wanted.get(name)!r} on the answer; but it is {seen!r}"
    return ""


def _joined(fields: Sequence[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in fields:
        found[name] = f"{found[name]},{value}" if name in found else value
    return found
