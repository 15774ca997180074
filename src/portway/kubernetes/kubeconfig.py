"""Connections from kubeconfig files, by way of the library `kubernetes-asyncio`. Import it late: 0.3 s and 40 MB.

The library reads and merges the files, chooses the context, and runs exec plugins. Each time that credentials are due
it is asked afresh, so a renewed token file, certificate, or a new login of `kubectl` is found without a restart. Three
things of it are mended here: keys that a kubeconfig holds as data touch the disk for no longer than it takes to read
them; its messages, which quote whole entries with their tokens, are cut; and an expired id-token of an `oidc`
auth-provider is not refreshed, since it would send the refresh token without looking at the issuer's certificate.

Source: Kubernetes docs, "Organizing Cluster Access Using kubeconfig Files", "client-go credential plugins".
"""

import asyncio
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple, cast, final

from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import kube_config as library
from kubernetes_asyncio.config.config_exception import ConfigException
from yaml import MarkedYAMLError, YAMLError

from portway.kubernetes.connection import READ_AGAIN, Connection, Identity, Tls
from portway.kubernetes.errors import ConnectionProblem

# What it logs without being asked is said in our errors.
library.logger.addHandler(logging.NullHandler())

DEFAULT: Final = "~/.kube/config"
EXPIRY_SKEW: Final = 60.0
"""Seconds before its end that an exec plugin's token is renewed; at most a fifth of its life."""
PLUGIN_TIMEOUT: Final = 60.0
"""Seconds for an exec plugin; a person may have to type something."""


class _Loaded(NamedTuple):
    server: str
    server_name: str
    proxy: str
    namespace: str
    context: str
    identity: Identity
    expires: float | None
    """Unix time; None: it does not say, and nothing must be run to make it anew."""


@final
class KubeconfigCredentials:
    """Who a context of a kubeconfig says that we are."""

    def __init__(
        self,
        files: str,
        context: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            files: one path, or several with `:` between.
            context: empty: the current one of the files, as it is when they are first read.
        """
        self._files = files
        self._context = context
        self._clock = clock
        self._wall_clock = wall_clock
        self._known: _Loaded | None = None
        self._due = 0.0
        self._is_refused = False
        self._lock = asyncio.Lock()

    async def identity(self) -> Identity:
        return (await self.loaded()).identity

    def refused(self, identity: Identity) -> None:
        if self._known is not None and identity == self._known.identity:
            self._is_refused = True

    async def loaded(self) -> _Loaded:
        """All that the kubeconfig says, not older than it may be. Raises ConnectionProblem."""
        # One plugin at a time, whoever asks.
        async with self._lock:
            if self._known is None or self._is_refused or self._clock() >= self._due:
                try:
                    self._known = await self._load()
                    self._context = self._known.context
                    self._due = self._clock() + self._lifetime(self._known)
                except ConnectionProblem:
                    if self._known is None or self._is_refused or self._is_over(self._known):
                        raise
                    self._due = self._clock() + READ_AGAIN  # what we have is good for a while
                self._is_refused = False
            return self._known

    def _lifetime(self, loaded: _Loaded) -> float:
        if loaded.expires is None:
            return READ_AGAIN
        left = loaded.expires - self._wall_clock()
        return max(1.0, left - min(EXPIRY_SKEW, left / 5))

    def _is_over(self, loaded: _Loaded) -> bool:
        return loaded.expires is not None and loaded.expires <= self._wall_clock()

    async def _load(self) -> _Loaded:
        # The library writes keys that are data into files; they live in a folder of our own, for as long as we read.
        folder = tempfile.mkdtemp(prefix="portway-")
        library._temp_files.clear()
        try:
            async with asyncio.timeout(PLUGIN_TIMEOUT):
                return await _load(self._files, self._context, folder)
        except TimeoutError:
            raise ConnectionProblem(
                f"{self._files}: the exec plugin did not end within {PLUGIN_TIMEOUT:.0f} s"
            ) from None
        except (*_UNUSABLE, ConfigException, OSError, YAMLError) as error:
            raise ConnectionProblem(f"{self._files}: {_said(error)}; mend the kubeconfig") from None
        finally:
            library._temp_files.clear()
            shutil.rmtree(folder, ignore_errors=True)


_UNUSABLE: Final = (ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError)
"""What the library raises where a field is missing or of another type than it thinks."""


def _said(error: Exception) -> str:
    """The error without what it quotes: that may be a token."""
    match error:
        case ConfigException():
            text = re.sub(r"^Invalid kube-config file\. (.*?) in .*", r"\1", str(error), flags=re.DOTALL)
            return re.sub(r"^Expected object with name (\S+)$", r'the context names "\1", which is not there', text)
        case OSError():
            return f"{error.filename}: {error.strerror}" if error.filename else str(error)
        case MarkedYAMLError():
            line = f" (line {error.problem_mark.line + 1})" if error.problem_mark is not None else ""
            return f"it is no YAML{line}"
    return "a field is missing, or has a value of the wrong type"


@final
class _Loader(library.KubeConfigLoader):
    async def _refresh_oidc(self, provider: object) -> None:
        raise ConfigException(
            "the id-token of the oidc auth-provider has expired: log in again, or use an exec plugin (kubelogin), "
            "which renews it by itself"
        )


async def _load(files: str, context: str, folder: str) -> _Loaded:
    merged = library.KubeConfigMerger(files)
    if merged.config is None:
        raise ConnectionProblem(f"{files}: there is no such file; name one with --kubeconfig or KUBECONFIG")
    _check_context(files, merged.config, context)
    configuration = Configuration()
    loader = _Loader(
        config_dict=merged.config, active_context=context or None, config_base_path=None, temp_file_path=folder
    )
    await loader.load_and_set(configuration)
    chosen = cast("dict[str, object]", loader.current_context)
    inner = cast("dict[str, str]", chosen["context"])
    expiry: datetime | None = getattr(loader, "exec_plugin_expiry", None)
    return _Loaded(
        server=str(configuration.host),
        server_name=str(getattr(configuration, "tls_server_name", None) or ""),
        proxy=str(configuration.proxy or ""),
        namespace=str(inner.get("namespace") or ""),
        context=str(chosen["name"]),
        identity=Identity(
            authorization=str(configuration.api_key.get("BearerToken") or "").strip(),
            tls=Tls(
                ca=_content(configuration.ssl_ca_cert),
                certificate=_content(configuration.cert_file),
                key=_content(configuration.key_file),
                verify=bool(configuration.verify_ssl),
            ),
        ),
        expires=expiry.timestamp() if expiry is not None else _never(loader),
    )


def _check_context(files: str, config: library.ConfigNode, context: str) -> None:
    """Say which contexts there are, where the one that is wanted is not among them."""
    entries = cast("list[library.ConfigNode]", config.value["contexts"])
    names = [str(entry.safe_get("name")) for entry in entries]
    wanted = context or str(config.safe_get("current-context") or "")
    if wanted in names:
        return
    choose = f"choose one of {', '.join(sorted(names))} with --context" if names else "it has none at all"
    if not wanted:
        raise ConnectionProblem(f"{files}: names no current context; {choose}")
    raise ConnectionProblem(f'{files}: there is no context "{wanted}"; {choose}')


def _never(loader: library.KubeConfigLoader) -> float | None:
    """A plugin that names no end is not run again until its answer is refused, as the plugins' protocol has it."""
    user = loader._user
    return float("inf") if user is not None and "exec" in user else None


def _content(file: object) -> bytes:
    return Path(str(file)).read_bytes() if file else b""


async def from_kubeconfig(kubeconfig: str, context: str) -> Connection:
    """The connection of a context.

    Args:
        kubeconfig: as for `connect`.

    Raises:
        ConnectionProblem: no such file or context, or it cannot be used.
    """
    files = kubeconfig or os.environ.get("KUBECONFIG", "") or DEFAULT
    credentials = KubeconfigCredentials(files, context)
    loaded = await credentials.loaded()
    return Connection(
        server=loaded.server,
        credentials=credentials,
        namespace=loaded.namespace,
        server_name=loaded.server_name,
        proxy=loaded.proxy,
        origin=loaded.context,
    )
