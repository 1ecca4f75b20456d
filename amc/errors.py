"""The exceptions that users of `amc` meet.

Every message states the rule that was broken, the value that broke it and the remedy. The command line prints
the message as one line and exits with `AmcError.exit_status`; Python callers catch `AmcError` or a subclass.
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable

_NEAR, _LESS_NEAR = 0.6, 0.4
"""How alike a name and the one meant are, from 0 to 1."""
_SHOWN = 20


_SYSTEM = re.compile(r"\[Errno (\d+)\] ([^:;]*?)(?:: (?P<path>'[^']*'|\"[^\"]*\"))?(?=$|[;,)]| ->)")
"""An error of the operating system as Python writes it."""
_NUMBER = re.compile(r"\[Errno \d+\] ")
_WORDS = {
    errno.ENOENT: "there is no file or folder {}",
    errno.ENOTDIR: "a part of the path {} is a file, where a folder must be",
    errno.EISDIR: "{} is a folder, where a file must be",
    errno.EEXIST: "there is something at {} already",
    errno.EACCES: "you may not use {}",
    errno.EPERM: "you may not use {}",
    errno.ELOOP: "{} is a link that is not followed, or leads in a circle",
    errno.ENAMETOOLONG: "the name {} is longer than the file system allows",
    errno.EROFS: "the file system of {} can only be read",
}


def in_plain_words(text: str) -> str:
    """Rewords what the operating system says of files and folders, wherever it stands in a text."""

    def reworded(found: re.Match[str]) -> str:
        words, path = _WORDS.get(int(found[1])), found["path"]
        if words is not None:
            return words.format("it" if path is None else path)
        return found[2].lower() + (f": {path}" if path else "")

    return _NUMBER.sub("", _SYSTEM.sub(reworded, text))


class AmcError(Exception):
    """Base of everything `amc` raises on purpose."""

    exit_status = 2

    def __str__(self) -> str:
        """Returns the message; what it has from the operating system is reworded."""
        return in_plain_words(super().__str__())


def cause_of(error: BaseException) -> str:
    """Returns what a caught error says, to stand in the message of another: a `KeyError` says nothing but a name."""
    if isinstance(error, KeyError) and error.args:
        return f"{error.args[0]!r} is missing"
    return str(error) or type(error).__name__


class ConfigurationError(AmcError):
    """An option, or a combination of options, that cannot be used."""


class UnknownNameError(ConfigurationError):
    """A name that is not registered; the message suggests the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        """Builds the message.

        Args:
            kind: What the name should have been, for example `"model"`.
            name: The name as the user wrote it.
            known: All valid names.
        """
        self.kind, self.name, self.known = kind, name, sorted(known)
        super().__init__(f"unknown {kind} {name!r}; {suggest(name, self.known)}")


class BudgetError(AmcError):
    """A budget that is malformed or that no allocation can meet."""


class InfeasibleBudgetError(BudgetError):
    """A budget below what the rules of pruning can reach."""


class ModelError(AmcError):
    """A network that cannot be built, has invalid weights or has nothing to prune."""


class ConsentError(ModelError):
    """A file that names code of its own: it is run only with the caller's consent."""


class StructureError(AmcError):
    """A network whose structure cannot be traced, or a cut that does not fit it."""


class CheckpointError(AmcError):
    """A weights file that cannot be read safely or does not fit the network."""


class DataError(AmcError):
    """A data set that cannot be found, read or split as asked."""


class RunFolderError(AmcError):
    """An output folder that cannot be used, or a run's folder that is incomplete."""


class ProcessLostError(AmcError):
    """One of several processes that train together has died."""


class ExportError(AmcError):
    """An export that failed, or whose outputs differ from PyTorch's."""


class ClusterError(AmcError):
    """A cluster that cannot be reached, has workers that are unfit, or has lost them."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Returns the remedy for a misspelt name.

    Args:
        name: The name as the user wrote it.
        known: All valid names.

    Returns:
        "did you mean ...?" with up to three near names, else the list of valid names (at most twenty). Of more than
        twenty, names that are less near are named rather than the first of the alphabet.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=_NEAR)
    if not near and len(names) > _SHOWN:
        near = difflib.get_close_matches(name, names, n=3, cutoff=_LESS_NEAR)
    if near:
        return f"did you mean {' or '.join(repr(match) for match in near)}?"
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return f"valid names: {shown or '(none)'}"
