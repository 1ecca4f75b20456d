"""Learning with the critic that sees the whole allocation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from agents.ddpg.budget_layer import BudgetLayer
from agents.ddpg.config import DDPGConfig
from agents.ddpg.episode_critic import EpisodeCritic
from agents.keep_scale import LINEAR, KeepScale

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from stable_baselines3.td3.policies import Actor

    from agents.ddpg.replay import SharedRewardReplayBuffer
    from amc.problem import PruningProblem

FIRST_STEPS = 10  # times as many gradient steps when nothing is learnt yet
_ACTOR_EPISODES = 8  # episodes whose observations a gradient step of the actor sees, half of them among the best
_WEIGHT_DECAY = 1e-2
_LOWEST_TARGET = -3.0  # in standard deviations: exactly how bad a hopeless allocation is need not be learnt


@dataclass(frozen=True)
class Episodes:
    """The replay as whole episodes.

    Attributes:
        observations: Shape `(episodes, decisions, features)`.
        keep: Keep ratios, shape `(episodes, decisions)`.
        rewards: Shape `(episodes,)`.
    """

    observations: torch.Tensor
    keep: torch.Tensor
    rewards: torch.Tensor

    @staticmethod
    def of(replay: SharedRewardReplayBuffer) -> Episodes:
        """Views a replay, whose episodes all have as many steps as there are decisions."""
        held, decisions = replay.size(), len(replay.sizes)
        observations = torch.from_numpy(replay.observations[:held]).reshape(-1, decisions, *replay.obs_shape)
        actions = torch.from_numpy(replay.actions[:held]).reshape(-1, decisions)
        rewards = torch.from_numpy(replay.rewards[:held]).reshape(-1, decisions)[:, 0]
        return Episodes(observations, (1.0 - actions) / 2.0, rewards)

    def best(self, count: int) -> torch.Tensor:
        """Returns the indices of the episodes with the highest rewards."""
        return self.rewards.topk(min(count, len(self.rewards))).indices


class EpisodeLearner:
    """Fits the critic to the replay's rewards, and the actor to the critic.

    The actor's gradient is the deterministic policy gradient of all steps of an episode at once: the keep ratios that
    it gives for an episode's observations go through the budget layer into the critic. A penalty keeps the actor's
    requests near the budget, as the layer itself leaves the common factor free.
    """

    def __init__(self, problem: PruningProblem, actor: Actor, config: DDPGConfig) -> None:
        """Creates a new critic.

        Args:
            problem: The problem of the environment.
            actor: The actor that is to learn, with its optimiser.
            config: The options.
        """
        self.scale: KeepScale = LINEAR
        """What the actor answers in, and the critic sees."""
        self._problem, self._actor, self._config = problem, actor, config
        self.losses: tuple[float | None, float | None] = (None, None)
        """Losses of the last gradient steps of actor and critic."""
        self._sizes = np.array([decision.size for decision in problem.decisions], dtype=np.float64)
        self.critic = EpisodeCritic(len(self._sizes), config.ensemble_hidden, config.ensemble)
        self.optimizer = torch.optim.AdamW(
            self.critic.parameters(), lr=config.critic_lr, weight_decay=_WEIGHT_DECAY, fused=True
        )

    def train(self, replay: SharedRewardReplayBuffer, steps: int, *, first: bool) -> None:
        """Takes gradient steps.

        Args:
            replay: The episodes; at least one.
            steps: How many steps for the critic, and then as many for the actor.
            first: Whether the critic has learnt nothing yet; it then takes more.
        """
        steps *= FIRST_STEPS if first else 1
        self.fit_critic(replay, steps)
        draw = self.actor_loss(replay)
        for _ in range(steps):
            loss = draw()
            gradient_step(self._actor.optimizer, loss)
        self.losses = (float(loss.detach()) if steps else None, self.losses[1])

    def share(self, actor: Actor) -> None:
        """Replaces its actor by one that several learners train."""
        self._actor = actor

    def values(self, keep: torch.Tensor) -> torch.Tensor:
        """Returns the critic's standardised rewards, `(members, N)`, of keep ratios, `(N, decisions)`."""
        values: torch.Tensor = self.critic(self.scale.level(keep))
        return values

    def good_episodes(self, replay: SharedRewardReplayBuffer) -> int:
        """Returns how many episodes count as the best."""
        return min(_ACTOR_EPISODES, replay.size() // len(self._sizes))

    def answers(
        self, replay: SharedRewardReplayBuffer, ranks: NDArray[np.int64]
    ) -> tuple[torch.Tensor, torch.Tensor, BudgetLayer]:
        """Returns the actor's keep ratios in the best episodes, those that were played, and the budget near the best.

        Args:
            replay: The episodes.
            ranks: Which of the best, from 0, shape `(N,)`.

        Returns:
            Keep ratios of the actor, shape `(N, decisions)`, which need not meet the budget; those of the episodes; and
            the layer that makes ratios meet it.
        """
        episodes = Episodes.of(replay)
        best = episodes.best(_ACTOR_EPISODES)
        drawn = torch.from_numpy(ranks)
        asked = self._keep(episodes.observations[best])  # each only once, though it may be drawn often
        return asked[drawn], episodes.keep[best][drawn], self._budget(episodes, best)

    def fit_critic(self, replay: SharedRewardReplayBuffer, steps: int) -> None:
        """Takes gradient steps of the critic."""
        episodes = Episodes.of(replay)
        weights = self._weights(episodes.rewards)
        targets = standardised(episodes.rewards, weights)
        batch = min(self._config.batch_size, 4 * len(weights))
        for _ in range(steps):
            rows = torch.multinomial(weights, batch, replacement=True)
            loss = (self.values(episodes.keep[rows]) - targets[rows]).square().mean()
            gradient_step(self.optimizer, loss)
        self.losses = (self.losses[0], float(loss.detach()) if steps else None)

    def _weights(self, rewards: torch.Tensor) -> torch.Tensor:
        """Returns how often episodes are drawn, by rank; shape `(episodes,)`, sum 1."""
        ranks = rewards.argsort(descending=True, stable=True).argsort().float() / len(rewards)
        return torch.softmax(-self._config.elite_focus * ranks, dim=0)

    def actor_loss(
        self, replay: SharedRewardReplayBuffer, walked: torch.Tensor | None = None
    ) -> Callable[[], torch.Tensor]:
        """Returns a function that draws episodes of the replay and returns the actor's loss on their observations.

        Args:
            replay: The episodes; at least one.
            walked: Observations of an episode that the actor has walked as it is, `(decisions, features)`, on which the
                loss is taken too.
        """
        episodes = Episodes.of(replay)
        best = episodes.best(_ACTOR_EPISODES)
        budget = self._budget(episodes, best)
        half = _ACTOR_EPISODES // 2

        def loss() -> torch.Tensor:
            rows = torch.cat([best[torch.randint(len(best), (half,))], torch.randint(len(episodes.rewards), (half,))])
            seen = episodes.observations[rows]
            return self._loss(seen if walked is None else torch.cat([seen, walked.expand(half, -1, -1)]), budget)

        return loss

    def _loss(self, observations: torch.Tensor, budget: BudgetLayer) -> torch.Tensor:
        """Returns the actor's loss on observations of shape `(N, decisions, features)`."""
        keep = self._keep(observations)
        values = self.values(budget(keep))
        if len(values) > 1:
            values = values.mean(0) - self._config.pessimism * values.std(0)
        loss: torch.Tensor = budget.excess(keep).square().mean() - values.mean()
        return loss

    def _keep(self, observations: torch.Tensor) -> torch.Tensor:
        """Returns the actor's keep ratios for observations of shape `(N, decisions, features)`."""
        output: torch.Tensor = self._actor(observations.reshape(-1, observations.shape[-1]))
        return self.scale.keep((1.0 - output.reshape(observations.shape[:2])) / 2.0)

    def _budget(self, episodes: Episodes, best: torch.Tensor) -> BudgetLayer:
        """Returns the budget as a layer that is exact near the best episode."""
        keep = episodes.keep[best[0]].double()
        widths = [round(float(ratio) * size) for ratio, size in zip(keep, self._sizes, strict=True)]
        return BudgetLayer(self._problem, widths)


def standardised(rewards: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Returns rewards less their weighted mean, in units of their standard deviation, cut off far below the mean."""
    deviation = rewards.std(unbiased=False).clamp(min=1e-6)
    return ((rewards - (weights * rewards).sum()) / deviation).clamp(min=_LOWEST_TARGET)


def gradient_step(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """Takes one gradient step."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
