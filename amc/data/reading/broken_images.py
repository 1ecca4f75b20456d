"""Images that cannot be decoded: refused at the first, or left out, named and counted."""

from __future__ import annotations

import warnings

from amc.errors import DataError

_MOST_SHARE = 0.1
"""Share of a split's images above which something else is wrong than single files."""
_SHOWN = 20


class BrokenImages:
    """The broken images of a data set, shared by its splits."""

    def __init__(self, *, skips: bool) -> None:
        """Starts with none.

        Args:
            skips: Whether they are left out; otherwise the first is an error.
        """
        self.skips = skips
        self._found: dict[str, str] = {}
        self._said = 0

    def __len__(self) -> int:
        """Returns how many different ones have been found."""
        return len(self._found)

    def names(self) -> tuple[str, ...]:
        """Returns their names, in the order in which they were found."""
        return tuple(self._found)

    def add(self, name: str, message: str, images: int) -> None:
        """Counts one of the images of a split.

        Raises:
            DataError: If they are not to be left out, or are too many.
        """
        if not self.skips:
            raise DataError(message)
        self._found[name] = message
        if len(self._found) > max(1.0, _MOST_SHARE * images):
            raise DataError(
                f"at most a tenth of the images may be broken, and {len(self._found)} of {images} are so far "
                f"({self._listed(self.names())}): {message.partition(';')[0]}; look at what writes them"
            )

    def say(self) -> None:
        """Warns of those found since the last time."""
        new = self.names()[self._said :]
        self._said = len(self._found)
        if new:
            earlier = f", {len(self._found)} so far" if len(self._found) > len(new) else ""
            warnings.warn(
                f"{len(new)} broken {'image is' if len(new) == 1 else 'images are'} left out{earlier}: "
                f"{self._listed(new)}",
                RuntimeWarning,
                stacklevel=2,
            )

    @staticmethod
    def _listed(names: tuple[str, ...]) -> str:
        rest = len(names) - _SHOWN
        return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
