"""Output on terminals that cannot write every character."""

from __future__ import annotations

import codecs
import sys

_ERRORS = "amc.plain"
_PLAIN = {
    **dict.fromkeys("─━═╌┄", "-"),
    **dict.fromkeys("│┃║", "|"),
    **dict.fromkeys("┌┏┍┎┐┓└┗┘┛├┝┡┢┣┤┥┩┨┪┫┬┳┯┰┴┻┷┸┼╇╈╋┿╂╞╡╪", "+"),
    "…": ".",
}


def write_plainly() -> None:
    """Lets stdout replace characters that its encoding lacks: lines of tables by ASCII ones, others by question marks.

    Without it, a table on a terminal that does not speak UTF-8 would end the command with an error after all its work.
    """
    codecs.register_error(_ERRORS, _replace)
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors=_ERRORS)


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Returns a stand-in of the same length for what cannot be encoded."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in text), error.end
