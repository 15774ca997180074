"""Starts a program as nobody's child: `python -I -S launcher.py OUTPUT PROGRAM ARGUMENT...`, working folder as given.

Unless hot restart is off, Envoy asks the kernel to be ended with its parent (`prctl(PR_SET_PDEATHSIG, SIGTERM)`, seen
with strace in 1.40). Ours has to outlive its starter, so its parent must be one that stays: process 1, or whoever takes
in orphans. It therefore waits, before it becomes Envoy, until the process in between has ended: its starter says so by
a byte on standard input. If the starter dies first, the input ends, and nothing is started.

A script of its own, since a fork is safe only in a process without threads. It starts in 10 ms: no import of ours.
"""

import os
import resource
import sys


def main(output: str, program: str, *arguments: str) -> None:
    """Print the process id of what will be the program, and end; the other branch becomes the program."""
    pid = os.fork()
    if pid:
        os.write(1, b"%d\n" % pid)
        return
    if os.read(0, 1) != b"\n":
        return
    log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # A connection takes two descriptors; many systems still allow 1,024 unless one asks.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.closerange(3, 256)
    os.execv(program, [program, *arguments])  # noqa: S606 - our own binary and arguments


if __name__ == "__main__":
    main(*sys.argv[1:])
