"""`amc watch`: a run seen from another terminal."""

from __future__ import annotations

from pathlib import Path

import jsonargparse

from amc.cli.command import Command
from amc.errors import ConfigurationError


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Adds the folder to watch."""
    parser.add_argument(
        "run", nargs="?", type=str | None, metavar="RUN", help="Folder of a run, a study or a training."
    )
    parser.add_argument("--seconds", metavar="N", type=float, default=1.0, help="Seconds between two looks.")
    parser.add_argument("--once", action="store_true", help="Look once and end.")


def run(options: jsonargparse.Namespace) -> None:
    """Shows where the run stands until it ends.

    Raises:
        AmcError: If the folder holds no run.
    """
    from amc.report.watching import watch

    if options.run is None:
        raise ConfigurationError("amc watch needs the folder of a run: amc watch runs/mine")
    if not 0.1 <= options.seconds <= 3600:
        raise ConfigurationError(f"--seconds must be from 0.1 to 3600, not {options.seconds:g}")
    watch(Path(options.run), seconds=options.seconds, once=options.once)


COMMAND = Command(
    add_arguments,
    run,
    usage="RUN [options]",
    description=(
        "Shows where a run, a study or a training of a policy stands, from another terminal: candidates, rewards,\n"
        "what is ready. It reads the folder and changes nothing in it. Curves as they grow:\n"
        "tensorboard --logdir RUN/tensorboard."
    ),
    examples="  amc watch runs/mine\n  amc watch studies/r20 --once",
)
