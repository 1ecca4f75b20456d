"""The critic chooses, among noisy plans of an episode, the one to play."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from agents.ddpg.exploration import truncated_normal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agents.ddpg.episode_learner import EpisodeLearner
    from agents.ddpg.replay import SharedRewardReplayBuffer

_draw = np.vectorize(truncated_normal, excluded=("sigma", "generator"), otypes=[np.float64])


def best_plan(
    learner: EpisodeLearner,
    replay: SharedRewardReplayBuffer,
    count: int,
    elite_share: float,
    sigma: float,
    generator: np.random.Generator,
    is_new: Callable[[NDArray[np.float64]], bool] = lambda ratios: True,
) -> NDArray[np.float64]:
    """Draws plans around the actor's answers and returns the one, of the new ones, that the critic values highest.

    A candidate costs a forward pass over thousands of images and a plan next to nothing, so noise that the critic knows
    to be bad is not played. The actor answers to the observations of good episodes, which are close to those that it
    would meet. An actor whose outputs have saturated does not recover by learning; therefore some plans are drawn
    around the allocations of good episodes.

    Args:
        learner: The actor, and a critic that has learnt.
        replay: The episodes; at least one.
        count: How many plans.
        elite_share: Share of them around the allocations of good episodes, 0 to 1.
        sigma: Standard deviation of the truncated normal noise, in levels (see `KeepScale`).
        generator: The source of randomness.
        is_new: Whether pruning ratios lead to an allocation that has not been played, of which nothing would be learnt.
            Where none does, the plan with the highest value is played again.

    Returns:
        Pruning ratios that meet the budget, shape `(decisions,)`.
    """
    with torch.no_grad():
        ranks = generator.integers(learner.good_episodes(replay), size=count)
        keep, kept, budget = learner.answers(replay, ranks)
        elites = round(elite_share * count)
        keep[:elites] = kept[:elites]
        levels = learner.scale.level(keep.double()).numpy()
        noisy = 1.0 - _draw(1.0 - levels, sigma=sigma, generator=generator)
        plans = budget(learner.scale.keep(torch.from_numpy(noisy)).float())
        order = learner.values(plans).mean(0).argsort(descending=True, stable=True)
    ratios: NDArray[np.float64] = 1.0 - plans[order].double().numpy()
    return next(filter(is_new, ratios), ratios[0])
