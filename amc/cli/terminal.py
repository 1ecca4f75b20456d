"""Output on terminals that lack some characters."""

from __future__ import annotations

import codecs
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import amc
from amc.errors import in_plain_words
from amc.utils.printable import printable

_ERRORS = "amc.plain"
_PLAIN = {
    **dict.fromkeys("─━═╌┄", "-"),
    **dict.fromkeys("│┃║", "|"),
    **dict.fromkeys("┌┏┍┎┐┓└┗┘┛├┝┡┢┣┤┥┩┨┪┫┬┳┯┰┴┻┷┸┼╇╈╋┿╂╞╡╪", "+"),
    "…": ".",
}
_LONGEST = 2000
_USUAL_FORMAT = warnings.formatwarning


def open_closed_streams() -> None:
    """Opens stdout and stderr if they were closed, as by `>&-` in a shell.

    Otherwise the next file that is opened would take their number, and what the system prints would land in it.
    """
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is not None:
            continue
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def write_plainly() -> None:
    """Lets stdout replace characters that its encoding lacks: table lines by ASCII, others by question marks.

    Otherwise a table on a terminal without UTF-8 would end the command with an error, after all its work.
    """
    codecs.register_error(_ERRORS, _replace)
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors=_ERRORS)


def one_line(error: BaseException) -> str:
    """Returns a message on one line, without control sequences: part of it may come from a file."""
    return _on_one_line(in_plain_words(str(error)))


def _on_one_line(words: str) -> str:
    """Returns words on one line, without control sequences; of long ones the beginning and the end."""
    text = printable(" ".join(words.split()))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


def warn_in_one_line() -> None:
    """Prints the project's own warnings like its errors, without the place in the code."""
    warnings.formatwarning = _formatted


@contextmanager
def threads_without_tracebacks() -> Iterator[None]:
    """Lets TensorBoard's thread print nothing within the context when its file cannot be written.

    The error comes up again where the next figure is handed to it, and ends the command in one line.
    """
    before = threading.excepthook

    def tell(args: threading.ExceptHookArgs) -> None:
        if not (isinstance(args.exc_value, OSError) and type(args.thread).__module__.startswith("tensorboard.")):
            before(args)

    threading.excepthook = tell
    try:
        yield
    finally:
        threading.excepthook = before


def _formatted(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    own = filename.startswith(str(Path(amc.__file__).parent))
    if own:
        return f"amc: warning: {_on_one_line(str(message))}\n"
    return _USUAL_FORMAT(printable(str(message)), category, filename, lineno, line)


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Returns a replacement, of the same length, for what cannot be encoded."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in text), error.end
