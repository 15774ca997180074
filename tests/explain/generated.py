"""Random configurations out of a small universe of hosts, paths and fields, so that declarations meet each other.

A configuration is a list of objects as a user would write them, few enough to be read when one fails. Everything is
drawn from the given random numbers; the same seed gives the same configuration.
"""

from collections.abc import Sequence
from random import Random
from typing import final

Document = dict[str, object]

NGINX = "nginx.ingress.kubernetes.io/"
HOSTS = ("shop.test", "www.shop.test", "api.shop.test", "a.b.shop.test", "other.test", "*.shop.test", "*.b.shop.test")
PATHS = ("/", "/foo", "/foo/", "/foo/bar", "/Foo", "/a.b", "/v1", "/v1/x", "/~u", "/p+q", "/foobar")
PATTERNS = ("/v[0-9]+", "/foo(/|$)(.*)", "/(foo|bar)/.*", "/foo.*", "/[a-z]+/x", "/a.b", "/v1/(.*)", "/", "/x|/foo")
SERVICES = ("a", "b", "c", "d")
FIELDS = ("x-a", "x-b", "x-c")
VALUES = ("1", "2", "always", "never", "one two", "")
ORIGINS = ("http://shop.test", "https://*.shop.test", "*", "http://other.test:8080")


@final
class Generator:
    """Makes configurations."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def configuration(self) -> list[Document]:
        """Some Ingresses or a Gateway with routes, and what they refer to."""
        made = self._ingresses() if self.random.random() < 0.5 else self._gateway()
        return [*made, *_services(), *_secrets()]

    def _maybe(self, chance: float) -> bool:
        return self.random.random() < chance

    def _some(self, choices: Sequence[str], most: int) -> list[str]:
        return self.random.sample(choices, self.random.randint(1, min(most, len(choices))))

    # Ingress.

    def _ingresses(self) -> list[Document]:
        found: list[Document] = []
        for number in range(self.random.randint(1, 4)):
            hosts = self._some(HOSTS, 2)
            regex = self._maybe(0.25)
            canary = bool(found) and self._maybe(0.25)
            annotations = self._canary() if canary else self._annotations(regex=regex)
            rules: list[Document] = [{"host": host, "http": {"paths": self._paths(regex=regex)}} for host in hosts]
            if canary:
                # Beside the paths of an Ingress that is there already.
                rules = [self.random.choice(found)["spec"]["rules"][0]]  # type: ignore[index]  # our own
                rules = [_with_backend(rules[0], self._backend())]
            elif self._maybe(0.1):
                rules[0].pop("host")
            spec: Document = {"ingressClassName": "portway", "rules": rules}
            if self._maybe(0.15):
                spec["defaultBackend"] = self._backend()
            if self._maybe(0.3):
                named = [host for host in hosts if self._maybe(0.8)]
                spec["tls"] = [{"hosts": named, "secretName": self.random.choice(("shop", "other", "none"))}]
            name = f"i{number}"
            found.append(_object("networking.k8s.io/v1", "Ingress", name, spec, annotations))
        controller = {"controller": "portway.dev/ingress-controller"}
        return [*found, _object("networking.k8s.io/v1", "IngressClass", "portway", controller)]

    def _paths(self, *, regex: bool) -> list[Document]:
        paths = self._some(PATTERNS if regex else PATHS, 3)
        kinds = ("ImplementationSpecific",) if regex else ("Prefix", "Exact", "Prefix", "ImplementationSpecific")
        return [{"path": path, "pathType": self.random.choice(kinds), "backend": self._backend()} for path in paths]

    def _backend(self) -> Document:
        name = self.random.choices((*SERVICES, "empty", "missing"), (5, 5, 5, 5, 1, 1))[0]
        return {"service": {"name": name, "port": {"number": 80}}}

    def _annotations(self, *, regex: bool) -> dict[str, str]:
        choices: dict[str, tuple[str, ...]] = {
            "rewrite-target": ("/", "/new", "/$1", "/$2", "/new/$1", "new", "/foo"),
            "app-root": ("/start", "/start?x=1"),
            "server-alias": ("alias.test", "*.alias.test", "shop.test,alias.test", "~^re[0-9]+\\.test$"),
            "upstream-vhost": ("inner.test",),
            "from-to-www-redirect": ("true",),
            "permanent-redirect": ("http://new.test/x", "/moved", "/a%20b?x=$1"),
            "permanent-redirect-code": ("307", "308", "200"),
            "temporal-redirect": ("https://new.test",),
            "ssl-redirect": ("true", "false"),
            "force-ssl-redirect": ("true",),
            "enable-cors": ("true",),
            "cors-allow-origin": (*ORIGINS, "http://shop.test,http://b.test"),
            "cors-allow-credentials": ("false",),
            "allowlist-source-range": ("127.0.0.0/8", "10.0.0.0/8", "10.0.0.0/8,127.0.0.1"),
            "denylist-source-range": ("127.0.0.1", "10.0.0.0/8"),
            "x-forwarded-prefix": ("/prefix",),
            "default-backend": ("c",),
            "proxy-body-size": ("10", "1k", "0"),
            "auth-url": ("http://auth.test",),
        }
        weights = {
            "auth-url": 0.01,
            "permanent-redirect": 0.06,
            "temporal-redirect": 0.04,
            "denylist-source-range": 0.05,
        }
        found = {
            NGINX + name: self.random.choice(values)
            for name, values in choices.items()
            if self._maybe(weights.get(name, 0.09))
        }
        if regex:
            found[NGINX + "use-regex"] = "true"
        return found

    def _canary(self) -> dict[str, str]:
        found = {NGINX + "canary": "true"}
        if self._maybe(0.5):
            found[NGINX + "canary-by-header"] = self.random.choice(FIELDS)
            if self._maybe(0.4):
                found[NGINX + "canary-by-header-value"] = self.random.choice(VALUES[:4])
            elif self._maybe(0.4):
                found[NGINX + "canary-by-header-pattern"] = self.random.choice(("[0-9]+", "^al", "e"))
        if self._maybe(0.4):
            found[NGINX + "canary-by-cookie"] = self.random.choice(("canary", "c"))
        if self._maybe(0.5):
            found[NGINX + "canary-weight"] = self.random.choice(("0", "30", "100"))
        return found

    # Gateway API.

    def _gateway(self) -> list[Document]:
        random = self.random
        listeners: list[Document] = []
        for number in range(random.randint(1, 4)):
            secure = self._maybe(0.35)
            listener: Document = {
                "name": f"l{number}",
                "port": 443 if secure else random.choice((80, 80, 8080)),
                "protocol": "HTTPS" if secure else "HTTP",
                "allowedRoutes": {"namespaces": {"from": "All"}},
            }
            if self._maybe(0.6):
                listener["hostname"] = random.choice(HOSTS)
            if secure:
                listener["tls"] = {"certificateRefs": [{"name": random.choice(("shop", "other"))}]}
            taken = [(each["port"], each.get("hostname")) for each in listeners]
            if (listener["port"], listener.get("hostname")) not in taken:
                listeners.append(listener)
        spec: Document = {"gatewayClassName": "portway", "listeners": listeners}
        gateway = _object("gateway.networking.k8s.io/v1", "Gateway", "web", spec)
        controller = {"controllerName": "portway.dev/gateway-controller"}
        kind = _object("gateway.networking.k8s.io/v1", "GatewayClass", "portway", controller)
        names = [str(listener["name"]) for listener in listeners]
        routes = [self._route(number, names) for number in range(random.randint(1, 4))]
        return [kind, gateway, *routes]

    def _route(self, number: int, listeners: Sequence[str]) -> Document:
        parent: Document = {"name": "web"}
        if self._maybe(0.25):
            parent["sectionName"] = self.random.choice(listeners)
        spec: Document = {"parentRefs": [parent]}
        if self._maybe(0.7):
            spec["hostnames"] = self._some(HOSTS, 2)
        grpc = self._maybe(0.12)
        make = self._grpc_rule if grpc else self._rule
        spec["rules"] = [make() for _ in range(self.random.randint(1, 3))]
        document = _object("gateway.networking.k8s.io/v1", "GRPCRoute" if grpc else "HTTPRoute", f"r{number}", spec)
        stamp = f"2024-01-0{self.random.randint(1, 3)}T00:00:00Z"
        document["metadata"]["creationTimestamp"] = stamp  # type: ignore[index]  # our own document
        return document

    def _rule(self) -> Document:
        rule: Document = {}
        if self._maybe(0.85):
            rule["matches"] = [self._match() for _ in range(self.random.randint(1, 2))]
        filters = self._filters(rule)
        if filters:
            rule["filters"] = filters
        if not any(each["type"] == "RequestRedirect" for each in filters) and self._maybe(0.95):
            rule["backendRefs"] = self._backend_refs()
        return rule

    def _match(self) -> Document:
        random = self.random
        match: Document = {}
        if self._maybe(0.85):
            kind = random.choice(("Exact", "PathPrefix", "PathPrefix", "PathPrefix", "RegularExpression"))
            choices = PATTERNS if kind == "RegularExpression" else PATHS
            match["path"] = {"type": kind, "value": random.choice(choices)}
        if self._maybe(0.3):
            names = self._some(FIELDS, 2)
            match["headers"] = [{"name": name.title(), **self._value()} for name in names]
        if self._maybe(0.2):
            match["queryParams"] = [{"name": name, **self._value()} for name in self._some(("q", "Q", "r"), 2)]
        if self._maybe(0.2):
            match["method"] = random.choice(("GET", "POST", "OPTIONS", "DELETE"))
        return match

    def _value(self) -> Document:
        if self._maybe(0.3):
            return {"type": "RegularExpression", "value": self.random.choice(("[0-9]+", "a.*", ".*", "1|2"))}
        return {"value": self.random.choice(VALUES[:4])}

    def _filters(self, rule: Document) -> list[Document]:
        found: list[Document] = []
        if self._maybe(0.25):
            found.append({"type": "RequestHeaderModifier", "requestHeaderModifier": self._edits()})
        if self._maybe(0.2):
            found.append({"type": "ResponseHeaderModifier", "responseHeaderModifier": self._edits()})
        if self._maybe(0.12):
            cors: Document = {"allowOrigins": self._some(ORIGINS, 2)}
            cors.update({"allowCredentials": True} if self._maybe(0.4) else {})
            cors.update({"exposeHeaders": ["x-e"]} if self._maybe(0.4) else {})
            found.append({"type": "CORS", "cors": cors})
        # A prefix may be replaced only where every match has one.
        matches = rule.get("matches") or [{}]
        kinds = {each.get("path", {}).get("type", "PathPrefix") for each in matches}  # type: ignore[attr-defined]
        prefix = kinds == {"PathPrefix"} and len(matches) == 1  # type: ignore[arg-type]  # a list, ours
        if self._maybe(0.18):
            found.append({"type": "RequestRedirect", "requestRedirect": self._redirect(prefix=prefix)})
        elif self._maybe(0.3):
            found.append({"type": "URLRewrite", "urlRewrite": self._rewrite(prefix=prefix)})
        if self._maybe(0.05):
            mirror = {"backendRef": {"name": self.random.choice(SERVICES), "port": 80}}
            found.append({"type": "RequestMirror", "requestMirror": mirror})
        return found

    def _edits(self) -> Document:
        found: Document = {}
        names = list(FIELDS)
        self.random.shuffle(names)
        if self._maybe(0.6):
            found["set"] = [{"name": names[0], "value": self.random.choice(("s", "100%", "%REQ(x)%", "s t"))}]
        if self._maybe(0.5):
            found["add"] = [{"name": names[1], "value": "added"}]
        if self._maybe(0.4) or not found:
            found["remove"] = [names[2]]
        return found

    def _path_modifier(self, *, prefix: bool) -> Document:
        if prefix and self._maybe(0.7):
            value = self.random.choice(("/", "/new", "/new/", "/n/w"))
            return {"type": "ReplacePrefixMatch", "replacePrefixMatch": value}
        return {"type": "ReplaceFullPath", "replaceFullPath": self.random.choice(("/", "/full", "/full/x"))}

    def _redirect(self, *, prefix: bool) -> Document:
        found: Document = {}
        if self._maybe(0.5):
            found["scheme"] = self.random.choice(("http", "https"))
        if self._maybe(0.5):
            found["hostname"] = "new.test"
        if self._maybe(0.4):
            found["port"] = self.random.choice((80, 443, 8080, 8443))
        if self._maybe(0.4):
            found["path"] = self._path_modifier(prefix=prefix)
        if self._maybe(0.5):
            found["statusCode"] = self.random.choice((301, 302))
        return found

    def _rewrite(self, *, prefix: bool) -> Document:
        found: Document = {}
        if self._maybe(0.5):
            found["hostname"] = "inner.test"
        if self._maybe(0.7) or not found:
            found["path"] = self._path_modifier(prefix=prefix)
        return found

    def _backend_refs(self) -> list[Document]:
        found: list[Document] = []
        for _ in range(self.random.choice((1, 1, 1, 2, 3))):
            name = self.random.choices((*SERVICES, "empty", "missing"), (5, 5, 5, 5, 1, 1))[0]
            reference: Document = {"name": name, "port": 80}
            if self._maybe(0.3):
                reference["weight"] = self.random.choice((0, 1, 3))
            if self._maybe(0.12):
                kind = self.random.choice(("request", "response"))
                title = f"{kind.title()}HeaderModifier"
                reference["filters"] = [{"type": title, f"{kind}HeaderModifier": self._edits()}]
            found.append(reference)
        return found

    def _grpc_rule(self) -> Document:
        rule: Document = {"backendRefs": [{"name": self.random.choice(SERVICES), "port": 80}]}
        if self._maybe(0.8):
            method: Document = {}
            if self._maybe(0.7):
                method["service"] = self.random.choice(("foo", "shop.Cart"))
            if self._maybe(0.7) or not method:
                method["method"] = self.random.choice(("bar", "Get"))
            rule["matches"] = [{"method": method}]
        return rule


def _with_backend(rule: Document, backend: Document) -> Document:
    paths = rule["http"]["paths"]  # type: ignore[index]  # our own rule
    return {**rule, "http": {"paths": [{**path, "backend": backend} for path in paths]}}


def _object(
    version: str, kind: str, name: str, spec: Document | dict[str, str], annotations: dict[str, str] | None = None
) -> Document:
    metadata: Document = {"name": name}
    if annotations:
        metadata["annotations"] = annotations
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _service(name: str) -> Document:
    spec: Document = {"ports": [{"port": 80}]}
    return _object("v1", "Service", name, spec)


def _services() -> list[Document]:
    found: list[Document] = []
    for name in (*SERVICES, "empty"):
        found.append(_service(name))
        if name != "empty":
            found.append(
                {
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
                    "addressType": "IPv4",
                    "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}],
                    "ports": [{"port": 80}],
                }
            )
    return found


def _secrets() -> list[Document]:
    names = {"shop": "shop.test,*.shop.test,*.b.shop.test", "other": "other.test"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "annotations": {"case/certificate": covered}},
        }
        for name, covered in names.items()
    ]
