"""The default certificate of a Portway that runs for years."""

import asyncio
import datetime as dt
from pathlib import Path

from portway.app.compiler import make_engine
from portway.app.fallback import (
    LIFETIME,
    RENEW_BEFORE,
    load_fallback_certificate,
    make_fallback_certificate,
    renew_fallback_certificate,
)
from portway.envoy.outputs import OUTPUTS
from portway.model.handles import FALLBACK_CERTIFICATE
from portway.model.tls import Secret
from portway.settings import Edge
from portway.store import ChangeSet
from tests.kit.manifests import CLASS, ingress, service
from tests.translate.ingress.kit import objects_of


async def test_it_is_renewed_while_it_is_still_good(tmp_path: Path) -> None:
    served = load_fallback_certificate(tmp_path)
    assert served.not_after is not None
    due = served.not_after - RENEW_BEFORE
    times = [due - dt.timedelta(hours=1), due + dt.timedelta(hours=1)]
    renewed: asyncio.Queue[Secret] = asyncio.Queue()

    def clock() -> dt.datetime:
        assert renewed.empty()
        return times.pop(0) if len(times) > 1 else times[0]

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(
            renew_fallback_certificate(tmp_path, served, renewed.put_nowait, look=dt.timedelta(), clock=clock)
        )
        found = await renewed.get()
        task.cancel()
    assert len(times) == 1, "not before it was due"
    assert found.not_after is not None
    assert found.not_after - times[0] > LIFETIME - dt.timedelta(days=1)
    assert load_fallback_certificate(tmp_path, times[0]) == found, "the same after a restart"


def test_another_one_changes_its_secret_and_nothing_else() -> None:
    engine = make_engine(Edge(), make_fallback_certificate())
    text = "---\n".join((CLASS, service("a", [1]), ingress("shop", "shop.test", [("/", "a")])))
    engine.apply(ChangeSet(changed=tuple(objects_of(text))))
    engine.settle()
    engine.set(FALLBACK_CERTIFICATE, None, make_fallback_certificate())
    delta = engine.settle()
    changed = {output.name: tuple(values) for output in OUTPUTS if (values := delta.of_any(output)[0])}
    assert list(changed) == ["secrets out"]
    assert len(changed["secrets out"]) == 1
