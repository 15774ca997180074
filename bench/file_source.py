"""How long the file source needs: to load, and from a file's change to its change set.

    python bench/file_source.py [ROUTES]

HTTPRoute + Service + EndpointSlice triples (5,000 by default), in one file and in a file for each. Each change is one
changed EndpointSlice, saved as editors do (a new file renamed over the old). Prints the median and the worst of 40.
"""

import asyncio
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import cast

from bench.yaml_parsers import manifests
from portway.sources.files import FileSource
from portway.store import ChangeSet

CHANGES = 40


async def measure(folder: Path, files: dict[str, str], label: str) -> None:
    """Load, change, print."""
    for name, text in files.items():
        (folder / name).write_text(text)
    source = FileSource([str(folder)], state_dir=folder / ".state")
    changes = cast("aclosing[AsyncIterator[ChangeSet]]", aclosing(source.changes()))  # type: ignore[type-var]
    async with changes as stream:
        start, cpu_start = time.perf_counter(), time.process_time()
        while not (await anext(stream)).synced:
            pass
        load, cpu = time.perf_counter() - start, time.process_time() - cpu_start
        name, text = next(iter(files.items()))
        took: list[float] = []
        async with asyncio.timeout(300):
            for number in range(CHANGES):
                draft = folder / "draft.tmp"
                draft.write_text(text.replace("10.1.0.0\n", f"10.3.0.{number}\n", 1))
                # What was saved before settles first: a change on its own is measured.
                waiting = asyncio.ensure_future(anext(stream))  # noqa: TID251 - ends in this function
                await asyncio.sleep(0.4 if not number else 0.05)
                start = time.perf_counter()
                draft.rename(folder / name)
                change = await waiting
                took.append(time.perf_counter() - start)
                assert len(change.changed) == 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    median, worst = statistics.median(took) * 1e3, max(took) * 1e3
    print(f"{label:32}{load:8.2f} s{cpu:8.2f} s{median:10.1f} ms{worst:10.1f} ms{peak:9.0f} MB")


async def main() -> None:
    routes = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    whole = manifests(routes)
    triples = whole.split("---\napiVersion: gateway")
    split = {
        f"{number:06}.yaml": ("" if not number else "apiVersion: gateway") + text for number, text in enumerate(triples)
    }
    print(f"{routes:,} triples{'':18}{'load':>10}{'CPU':>10}{'change':>13}{'worst':>13}{'peak':>12}")
    for label, files in (("in one file", {"all.yaml": whole}), (f"in {routes:,} files", split)):
        with tempfile.TemporaryDirectory() as folder:
            await measure(Path(folder), files, label)


if __name__ == "__main__":
    asyncio.run(main())
