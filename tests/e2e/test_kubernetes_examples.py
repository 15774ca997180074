"""The examples of the Kubernetes documentation, Ingress, served by a real Portway with a real Envoy and real backends.

All at once: as in a cluster, they must not hurt one another.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest

from portway.app.checking import check_files
from portway.settings import Settings
from tests.kit.backends import Backends
from tests.kit.certificates import Authority, client_context
from tests.kit.manifests import ingress, secret, service
from tests.kit.portway import Portway, portway

pytestmark = pytest.mark.e2e

NOBODY = 404
ANSWERS: Mapping[str, str | int] = {
    # Who answers, or with what status nobody does.
    "http://any.test/tea": "tea",
    "http://any.test/tea/green": "tea",
    "http://other.test/anywhere": "lobby",
    "http://nowhere.test/at/all": "lobby",
    "http://pictures.test/icons": "cellar",
    "http://pictures.test/icons/a.png": "cellar",
    "http://pictures.test/": "attic",
    "http://meals.test/soup": "soup",
    "http://meals.test/soup/today": "soup",
    "http://meals.test/cake": "cake",
    "http://meals.test/souper": NOBODY,
    "http://north.test/": "north",
    "http://south.test/x": "south",
    "http://exact.wild.test/bar": "north",
    "http://one.wild.test/foo": "south",
    "http://two.wild.test/foo/x": "south",
    "http://one.wild.test/bar": NOBODY,
    "http://two.one.wild.test/foo": "lobby",  # the wildcard stands for one label
    "http://wild.test/foo": "lobby",  # ... and for no less
    "https://safe.test/": "tea",
    "http://safe.test/x": 308,
}

PATHS: tuple[tuple[str, tuple[tuple[str, str], ...], str, str], ...] = (
    # Path types: name of the case, paths with their types, the path asked for, the path that answers ("": none).
    ("everything", (("Prefix", "/"),), "/any/thing", "/"),
    ("exact", (("Exact", "/tea"),), "/tea", "/tea"),
    ("exact-other", (("Exact", "/tea"),), "/bar", ""),
    ("exact-longer", (("Exact", "/tea"),), "/tea/", ""),
    ("exact-shorter", (("Exact", "/tea/"),), "/tea", ""),
    ("prefix", (("Prefix", "/tea"),), "/tea", "/tea"),
    ("prefix-slash", (("Prefix", "/tea"),), "/tea/", "/tea"),
    ("slash-prefix", (("Prefix", "/tea/"),), "/tea", "/tea/"),
    ("slash-slash", (("Prefix", "/tea/"),), "/tea/", "/tea/"),
    ("segments", (("Prefix", "/one/tw"),), "/one/two", ""),
    ("two-segments", (("Prefix", "/one/two"),), "/one/two", "/one/two"),
    ("trailing-declared", (("Prefix", "/one/two/"),), "/one/two", "/one/two/"),
    ("trailing-asked", (("Prefix", "/one/two"),), "/one/two/", "/one/two"),
    ("below", (("Prefix", "/one/two"),), "/one/two/three", "/one/two"),
    ("longer-segment", (("Prefix", "/one/two"),), "/one/twoxyz", ""),
    ("longest", (("Prefix", "/"), ("Prefix", "/one")), "/one/three", "/one"),
    ("longest-of-three", (("Prefix", "/"), ("Prefix", "/one"), ("Prefix", "/one/two")), "/one/two", "/one/two"),
    ("root-remains", (("Prefix", "/"), ("Prefix", "/one")), "/three", "/"),
    ("no-match", (("Prefix", "/one"),), "/three", ""),
    ("exact-first", (("Prefix", "/tea"), ("Exact", "/tea")), "/tea", "Exact /tea"),
)
SERVICES = ("tea", "lobby", "soup", "cake", "north", "south")
BACKENDS = ("attic", "cellar")


def path_case(name: str, paths: tuple[tuple[str, str], ...]) -> str:
    """An Ingress of its own host: the first path goes to soup, the others to cake and north."""
    backends = ("soup", "cake", "north")
    text = ingress(name, f"{name}.paths.test", [(path, backends[at]) for at, (_, path) in enumerate(paths)])
    for kind, path in paths:
        if kind == "Exact":
            at = [one for one, _ in paths].index("Exact")
            text = text.replace(
                f"{{path: {path}, pathType: Prefix, backend: {{service: {{name: {backends[at]},",
                f"{{path: {path}, pathType: Exact, backend: {{service: {{name: {backends[at]},",
            )
    return text


def path_answer(paths: tuple[tuple[str, str], ...], answering: str) -> str | int:
    """Who has to answer."""
    names = {"": NOBODY}
    found: dict[str, str | int] = dict(names)
    for at, (kind, path) in enumerate(paths):
        found.setdefault(path, ("soup", "cake", "north")[at])
        found[f"{kind} {path}"] = ("soup", "cake", "north")[at]
    return found[answering]


def static_backend(name: str, port: int) -> str:
    return f"""\
apiVersion: portway.dev/v1alpha1
kind: Backend
metadata: {{name: {name}, namespace: shop}}
spec: {{addresses: [{{address: 127.0.0.1, port: {port}}}]}}
"""


async def problem(running: Portway, url: str, expected: str | int, authority: str) -> str:
    """What is wrong with the answer of a URL; empty: nothing."""
    secure = {"tls": client_context(authority)} if url.startswith("https") else {}
    answer = await running.get(url, **secure)
    found = answer.pod if answer.pod is not None else answer.status
    return "" if found == expected else f"{url}: expected {expected}, got {found} {answer.failure or ''}"


async def test_the_documentations_examples_are_served(tmp_path: Path) -> None:
    authority = Authority()
    pair = authority.issue("safe.test")
    async with Backends() as backends:
        ports = {name: (await backends.start(name)).port for name in (*SERVICES, *BACKENDS)}
        files = {
            "examples.yaml": Path(__file__).with_name("kubernetes_examples.yaml").read_text(),
            "paths.yaml": "---\n".join(path_case(name, paths) for name, paths, _, _ in PATHS),
            "services.yaml": "---\n".join(service(name, [ports[name]]) for name in SERVICES),
            "backends.yaml": "---\n".join(static_backend(name, ports[name]) for name in BACKENDS),
            "secret.yaml": secret("safe", pair.certificate, pair.key),
        }
        async with portway(tmp_path, files) as running:
            asked = dict(ANSWERS)
            for name, paths, path, answering in PATHS:
                asked[f"http://{name}.paths.test{path}"] = path_answer(paths, answering)
            problems = [await problem(running, url, expected, authority.certificate) for url, expected in asked.items()]
            assert [one for one in problems if one] == []
            result = await check_files([str(running.files)], Settings())
            assert [str(remark) for remark in result.verdicts] == []
