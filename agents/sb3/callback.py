"""Keeping the episodes that a learner of Stable-Baselines3 plays."""

from __future__ import annotations

from collections.abc import Callable

from stable_baselines3.common.callbacks import BaseCallback

from agents.episodes import EpisodeLog
from agents.protocol import Learning


class EpisodeCallback(BaseCallback):
    """Records every episode as it ends."""

    def __init__(
        self, log: EpisodeLog, last: int | None = None, learning: Callable[[], Learning] | None = None
    ) -> None:
        """Takes the log.

        Args:
            log: Takes the episodes.
            last: Ends the training at once when the log holds this many; None lets the algorithm end by itself.
            learning: Returns what the agent has learnt; asked when episodes end.
        """
        super().__init__()
        self._log, self._last, self._learning = log, last, learning

    def _on_step(self) -> bool:
        finished = [info for done, info in zip(self.locals["dones"], self.locals["infos"], strict=True) if done]
        if finished:
            self._log.finish_together(finished, None if self._learning is None else self._learning())
        return self._last is None or len(self._log.episodes) < self._last
