"""Under `torchrun` every process has the same command line: the first one runs it, the others serve its trainings."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from amc.cli.command import Command, make_parser
from amc.cli.commands import COMMANDS
from amc.cli.named_configs import with_named_configs
from amc.errors import AmcError, ConfigurationError

_FAILED = 2


def rank_under_torchrun() -> int:
    """Returns the number of this process among those that `torchrun` has started; 0 if it has started none."""
    return int(os.environ.get("RANK", "0")) if _under_torchrun() else 0


def check_torchrun(name: str, command: Command) -> None:
    """Refuses `torchrun` for commands that train nothing, or whose trainings are not shared.

    Raises:
        ConfigurationError: If `torchrun` has started several processes, and the command is one of those.
    """
    if _under_torchrun() and not command.shares_trainings:
        raise ConfigurationError(f"torchrun is for amc compress and amc finetune; run amc {name} without it")


def serve(words: Sequence[str]) -> int:
    """Serves the trainings of the first process, which has the same command line; returns the exit status.

    What is wrong with the command line, the first process says.
    """
    words = [*words[:1], *with_named_configs(words[1:])]
    try:
        with open(os.devnull, "w") as silence, contextlib.redirect_stderr(silence), contextlib.redirect_stdout(silence):
            command = COMMANDS.get(words[0] if words else "")
            check_torchrun(words[0], command)
            options = make_parser(words[0], command, words[1:]).parse(words[1:], _defaults(command, words))
            device = options["device"]
    except (AmcError, OSError, SystemExit):
        return _FAILED
    from amc.training.distributed.worker import serve_torchrun  # here, as it loads PyTorch

    return serve_torchrun(device)


def _defaults(command: Command, words: Sequence[str]) -> list[str]:
    """Returns the words that come before those of the command line: of the run that is resumed, or worked on."""
    from amc.cli.resume import resumed_run

    resumed = resumed_run(words[1:], words[0]) if command.resumes else None
    return command.defaults(words[1:]) if resumed is None else resumed.words


def _under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1
