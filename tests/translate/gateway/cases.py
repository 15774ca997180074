"""Golden cases of Gateway API: a folder with `in.yaml` (objects), `answers.yaml` (who answers what), `status.yaml`
(conditions).

`in.yaml` is what a user would write, but for key material: a Secret with the annotation `case/certificate` (DNS names
with commas) gets a certificate and key (an expired one with `case/expired`), a ConfigMap or Secret with
`case/authority` gets a CA certificate in `ca.crt`.

`answers.yaml` is a list; each entry names a request and what is expected of it:

    - {get: "http://host:port/path?query", headers: {name: value}}   # or post:, head:, options: ...
      tls: sni               # for https another server name than the URL's host
      address: 10.0.0.1      # of several addresses of the port
      from: service          # or {a: 0.7, b: 0.3, 500: 0.1}; `Backend` objects by their name too
      status: 404            # answered by the proxy
      location: url
      upstream_path: /path   # with query
      upstream_host: name
      upstream_headers: {name: value or null}
      response_headers: {name: value or null}    # what the backend's empty answer becomes
      mirrored: {service: share}
      closed: true           # no connection
    - {tcp: "host:port"}     # a stream; with `tls: sni` over TLS, `plain: true` without
    - {udp: "host:port"}

`status.yaml` maps objects (`HTTPRoute shop/cart`) to what is expected of their status; what is not mentioned is not
compared.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml

from portway.store import Stored
from tests.kit.certificates import Authority, KeyPair
from tests.translate.gateway.kit import read

Plain = Mapping[str, object]


@cache
def authority() -> Authority:
    return Authority()


@cache
def pair(names: str) -> KeyPair:
    return authority().issue(*names.split(","))


def objects_of(text: str) -> list[Stored]:
    """The objects of an `in.yaml`, with key material put in."""
    documents = [document for document in yaml.safe_load_all(text) if document is not None]
    for document in documents:
        metadata = document.get("metadata", {})
        annotations = metadata.get("annotations", {})
        if names := annotations.get("case/certificate"):
            document["type"] = "kubernetes.io/tls"
            found = authority().issue_expired(names) if "case/expired" in annotations else pair(names)
            document["stringData"] = {"tls.crt": found.certificate, "tls.key": found.key}
        if "case/authority" in annotations:
            field = "stringData" if document["kind"] == "Secret" else "data"
            document[field] = {"ca.crt": authority().certificate}
    return read(yaml.safe_dump_all(documents))


def load(path: Path) -> object:
    return yaml.safe_load(path.read_text()) if path.exists() else None
