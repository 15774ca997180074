"""Who is measured: Portway, with `--beside` Traefik too; one after the other in one run, each on a stage of its own."""

import argparse
import asyncio
from collections.abc import Callable, Coroutine, Sequence

from bench.cluster.portway import Portway
from bench.cluster.stage import Contender
from bench.cluster.traefik import PROGRAM, Traefik
from bench.report import machine

ROUNDS_BESIDE = 20


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the flags that all programs have."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--beside", action="store_true", help="also Traefik")
    return made


def contenders(given: argparse.Namespace, *arguments: str) -> Sequence[Contender]:
    """Those that were asked for and are installed.

    Args:
        arguments: further ones of `portway run`.
    """
    found: list[Contender] = [Portway(arguments=arguments)]
    if given.beside and PROGRAM.exists():
        found.append(Traefik())
    elif given.beside:
        print("Traefik is not installed (bench/setup.sh): it is left out")
    return found


def rounds_of(contender: Contender, wanted: int) -> int:
    """How many changes to measure: fewer beside Portway, where each takes seconds."""
    return wanted if isinstance(contender, Portway) else min(wanted, ROUNDS_BESIDE)


def start(work: Callable[[], Coroutine[None, None, None]]) -> None:
    """Say which machine it is, and run."""
    print(machine(), flush=True)
    asyncio.run(work())
