"""`portway`, and `python -m portway`.

`portway run` imports for most of a second (`portway proxy` for less), and who stops it then has a right to exit code 0
and silence: there is nothing to drain yet. So these few lines come before all imports that take time.
"""

import os
import signal
import sys

from portway.app import collector

ENDINGS = (signal.SIGTERM, signal.SIGINT)


def main() -> None:
    """Run the command that the arguments name."""
    collector.expect_growth()
    if sys.argv[1:2] in (["run"], ["proxy"]):
        for number in ENDINGS:
            signal.signal(number, lambda *_: os._exit(0))  # until the command sets its own
    from portway.cli import main as commands

    commands()


if __name__ == "__main__":
    main()
