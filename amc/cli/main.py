"""The `amc` command: finds the subcommand, runs it, and prints errors as one line."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import amc
from amc.cli.command import make_parser
from amc.cli.commands import COMMANDS
from amc.cli.named_configs import with_named_configs
from amc.cli.several_processes import check_torchrun, rank_under_torchrun, serve
from amc.cli.terminal import one_line, open_closed_streams, threads_without_tracebacks, warn_in_one_line, write_plainly
from amc.errors import AmcError
from amc.utils.stopping import exit_status, stop_no_more, stop_requested, stopping_safely

if TYPE_CHECKING:
    from amc.report.run_folder import RunFolder

_ALLOCATIONS_BETWEEN_COLLECTIONS = 100_000
"""Objects created before Python collects garbage; its default of 700 means hundreds of passes during imports."""

_DISK_IS_FULL = (
    "No space left on device",
    "Disk quota exceeded",
    "File too large",
    "inline_container",
    "PytorchStreamWriter",
    "iostream error",
)
"""How the system, safetensors and PyTorch report a full disk."""

_REMEDY_FOR_MEMORY = (
    "what was done before is kept: end other programs, or choose another --device, and resume; or start a run with "
    "smaller batches in another --out"
)
_REMEDY_FOR_DISK = (
    "what was written is kept: free some space, and continue with --resume (a study, and what else has no such option, "
    "with the same command)"
)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def load(words: Sequence[str]) -> None:
    """Imports the subcommand that the first word names, and with it PyTorch; nothing if there is no such command.

    What is imported stays, so later collections pass over it: each stage of the work ends with one, which takes 0.15 s
    where it goes through the 250,000 objects of PyTorch and the rest.
    """
    _collect_rarely()
    if words and words[0] in COMMANDS:
        COMMANDS.get(words[0])
    gc.freeze()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns the exit status.

    Args:
        arguments: The words after `amc`; the process's own if None.

    Returns:
        0 when the work is done, 2 for anything the user can fix, 130 after Ctrl-C, 143 after SIGTERM.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    open_closed_streams()
    write_plainly()
    warn_in_one_line()
    _collect_rarely()
    if rank_under_torchrun():
        return serve(words)
    try:
        with stopping_safely(), threads_without_tracebacks():
            return _guarded(words)
    except KeyboardInterrupt:  # in the moment between an end and its line
        print("amc: interrupted", file=sys.stderr)
        return exit_status()


def _collect_rarely() -> None:
    gc.set_threshold(_ALLOCATIONS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])


def _guarded(words: list[str]) -> int:
    """Runs a command line, and prints as one line whatever ends it early."""
    try:
        return _dispatch(words)
    except BrokenPipeError:  # the reader of the output has left, as `amc inspect | head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, KeyboardInterrupt) as error:
        stop_no_more()
        told = _told(error)
        if told is None:
            raise
        status, line = told
        print(f"amc: {line}", file=sys.stderr)
        return status


def _told(error: BaseException) -> tuple[int, str] | None:
    """Returns the exit status for what has ended the work, and what to say of it; None for a fault of the program."""
    if isinstance(error, AmcError):
        return error.exit_status, f"error: {one_line(error)}"
    if isinstance(error, KeyboardInterrupt):  # a run that has begun says how to continue
        return exit_status(), f"interrupted{f'; {error}' if str(error) else ''}"
    if stop_requested():  # from a library that wraps it in an error of its own
        return exit_status(), "interrupted"
    if isinstance(error, OSError) and error.filename is not None and error.errno not in _FULL:
        return 2, f"error: cannot use a file or folder: {one_line(error)}; what was written before is kept"
    if "torch" in sys.modules and _is_out_of_memory(error):
        return 2, f"error: out of memory ({one_line(error)}); {_REMEDY_FOR_MEMORY}"
    if any(words in str(error) for words in _DISK_IS_FULL):
        return 2, f"error: the disk is full ({one_line(error)}); {_REMEDY_FOR_DISK}"
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    from amc.runtime.memory import is_out_of_memory  # here, as it loads PyTorch

    return is_out_of_memory(error)


def _dispatch(words: list[str]) -> int:
    """Runs the subcommand that the first word names."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"amc {amc.__version__}")
        return 0
    command, words = COMMANDS.get(words[0]), [words[0], *with_named_configs(words[1:])]
    resumed = _resumed(words[0], words[1:]) if command.resumes else None
    defaults = command.defaults(words[1:]) if resumed is None else resumed.words
    try:
        options = make_parser(words[0], command, words[1:]).parse(words[1:], defaults)
    except SystemExit as finished:  # --help and --print_config print and leave
        return int(finished.code or 0)
    check_torchrun(words[0], command)
    options["resumed"] = resumed
    command.run(options)
    return 0


def _resumed(name: str, words: Sequence[str]) -> RunFolder | None:
    from amc.cli.resume import resumed_run  # here, as it loads the run's parts

    return resumed_run(words, name)


def _overview() -> str:
    """Returns the help of `amc` itself."""
    width = max(len(name) for name in COMMANDS.names())
    lines = [
        "usage: amc COMMAND [options]",
        "",
        "Fits a trained PyTorch network into a budget, with as little loss of accuracy as possible.",
        "Try it: 'amc compress' prunes a small network to half its FLOPs in about half a minute, without any download.",
        "",
        "commands:",
        *(f"  {entry.name:<{width}}  {entry.summary}" for entry in COMMANDS.entries()),
        "",
        "'amc COMMAND --help' explains a command's options; 'amc --version' prints the version.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
