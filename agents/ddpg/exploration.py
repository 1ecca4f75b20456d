"""How the agent explores: guided episodes, a warm-up, then decaying noise around the actor's mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agents.ddpg.config import DDPGConfig
from agents.keep_scale import LINEAR, KeepScale
from amc.errors import ConfigurationError


def truncated_normal(mean: float, sigma: float, generator: np.random.Generator) -> float:
    """Draws from a normal distribution restricted to [0, 1], by rejection.

    Args:
        mean: Mean of the untruncated normal, in [0, 1]; about half of the draws or more are then accepted, fewer only
            if sigma is far above 1.
        sigma: Standard deviation of the untruncated normal.
        generator: The source of randomness.

    Returns:
        The draw.

    Raises:
        ConfigurationError: If the mean is NaN, as after a training that diverged.
    """
    if math.isnan(mean):
        raise ConfigurationError("ddpg: the training diverged, the actor answers NaN; lower actor_lr and critic_lr")
    while True:
        value = float(generator.normal(mean, sigma))
        if 0.0 <= value <= 1.0:
            return value


@dataclass(frozen=True)
class Schedule:
    """What an episode of a search does.

    Attributes:
        guides: Pruning ratios of the first episodes after the noiseless ones, played as they are; each has shape
            `(decisions,)`.
        warmup: Episodes of warm-up, noiseless and guided ones included.
        sigma: Standard deviation during the warm-up and in the first episode after it.
        decay: Factor on the deviation after every episode past the warm-up.
        floor: The deviation never falls below it.
        uniform: Whether the warm-up draws uniformly instead of around the actor's mean.
        noiseless: Episodes at the start that the actor plays as it is.
    """

    guides: tuple[NDArray[np.float64], ...]
    warmup: int
    sigma: float
    decay: float
    floor: float
    uniform: bool
    noiseless: int = 0

    @staticmethod
    def of_search(config: DDPGConfig, episodes: int, guides: Sequence[NDArray[np.float64]]) -> Schedule:
        """Returns the schedule of a new agent's search."""
        warmup = max(config.warmup(episodes), min(len(guides), episodes))
        decay, floor = config.annealing(config.sigma, episodes - warmup)
        return Schedule(tuple(guides), warmup, config.sigma, decay, floor, config.warmup_actions == "uniform")

    @staticmethod
    def continued(config: DDPGConfig, episodes: int) -> Schedule:
        """Returns the schedule of a search that a trained agent continues: its policy first, then with less noise."""
        decay, floor = config.annealing(config.continued_sigma, episodes)
        return Schedule((), 0, config.continued_sigma, decay, floor, uniform=False, noiseless=1)

    @staticmethod
    def transferred(config: DDPGConfig, episodes: int, guides: Sequence[NDArray[np.float64]]) -> Schedule:
        """Returns the schedule of a search that a trained actor starts on another task.

        The critic has to see some of the task before the actor may follow it, so there is a warm-up, as in a new
        agent's search; but it plays around the actor's policy.
        """
        new = Schedule.of_search(config, episodes, guides)
        warmup = max(new.warmup, min(1 + len(guides), episodes))
        decay, floor = config.annealing(config.continued_sigma, episodes - warmup)
        sigma = config.continued_sigma
        return replace(new, warmup=warmup, sigma=sigma, decay=decay, floor=floor, uniform=False, noiseless=1)

    def sigma_of(self, episode: int) -> float:
        """Returns the standard deviation of an episode."""
        return max(self.floor, self.sigma * self.decay ** max(0, episode - self.warmup))

    def ratio(
        self,
        episode: int,
        step: int,
        mean: Callable[[], float],
        generator: np.random.Generator,
        scale: KeepScale = LINEAR,
    ) -> float:
        """Returns the pruning ratio to play.

        Args:
            episode: Number of the episode in the search.
            step: Number of the decision in the episode.
            mean: Asks the actor what it cuts, `1 - level` on the scale; called only where its answer matters.
            generator: The source of randomness.
            scale: What levels stand for; noise is in levels, too.

        Returns:
            The ratio, in [0, 1].
        """
        if self.noiseless <= episode < self.noiseless + len(self.guides):
            return float(self.guides[episode - self.noiseless][step])
        if episode < self.noiseless:
            cut = mean()
        elif episode < self.warmup and self.uniform:
            cut = float(generator.random())
        else:
            cut = truncated_normal(mean(), self.sigma_of(episode), generator)
        return scale.ratios(cut)
