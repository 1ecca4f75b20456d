"""Runs the command line, as `amc` or as `python -m amc`."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def main() -> int:
    """Runs the command line of this process and returns the exit status.

    A Ctrl-C or SIGTERM while the command and its libraries are imported, which takes seconds, ends at once with a line.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    from amc.cli.main import load
    from amc.cli.main import main as run

    load(sys.argv[1:])
    return run()


def _leave(number: int, frame: FrameType | None) -> None:
    """Ends the process at once: nothing has begun yet, or all is done."""
    os.write(2, b"amc: interrupted\n")
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
