"""How long a piece of work will take, by its pace so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Pace:
    """Follows the share that is done, and tells the time left by the last half of the time.

    Work that continues from a checkpoint jumps to where it was, and one that plays back what is on record is fast at
    first: its mean pace from the start would promise minutes where hours are left.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Starts now.

        Args:
            clock: Returns seconds.
        """
        self._clock, self._start = clock, clock()
        self._seen = deque([(self._start, 0.0)])

    def seconds_left(self, share: float) -> float | None:
        """Takes the share that is done, 0 to 1; call it at every change.

        Returns:
            The seconds left; None where that cannot be told.
        """
        now = self._clock()
        self._seen.append((now, share))
        while len(self._seen) > 2 and self._seen[0][0] < (self._start + now) / 2:
            self._seen.popleft()
        since, before = self._seen[0]
        return (now - since) / (share - before) * (1.0 - share) if share > before else None
