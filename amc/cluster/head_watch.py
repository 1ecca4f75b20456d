"""Notices that the head node of a cluster is dead, before Ray ends this process for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from amc.errors import ClusterError

PATIENCE_S = 25.0
"""Seconds without an answer; Ray itself ends the process after sixty."""
_BETWEEN_S = 5.0


class HeadWatch:
    """Asks the head node for a sign of life now and then, in a thread, as an answer may never come."""

    def __init__(self, ask: Callable[[], object], address: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes the question.

        Args:
            ask: Returns when the head node has answered; raises or blocks if it does not.
            address: Of the head node, for the message.
            clock: Returns seconds; for tests.
        """
        self._ask, self._address, self._clock = ask, address, clock
        self._answered = self._asked = clock()
        self._thread: threading.Thread | None = None

    def check(self) -> None:
        """Asks again if it is time to.

        Raises:
            ClusterError: If there was no answer for too long.
        """
        now = self._clock()
        if now - self._answered > PATIENCE_S:
            raise ClusterError(
                f"the head node of the cluster at {self._address} must answer, and has not for "
                f"{now - self._answered:.0f} s: start the cluster again, and repeat the command; what has finished is "
                "kept"
            )
        if now - self._asked >= _BETWEEN_S and (self._thread is None or not self._thread.is_alive()):
            self._asked = now
            self._thread = threading.Thread(target=self._listen, daemon=True)
            self._thread.start()

    def _listen(self) -> None:
        try:
            self._ask()
        except Exception:  # any failure means that the head has not answered
            return
        self._answered = self._clock()
