"""The options of the DDPG agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from amc.errors import ConfigurationError


@dataclass(frozen=True)
class DDPGConfig:
    """Options of the DDPG agent.

    Attributes:
        hidden: Widths of the hidden layers of actor and critic.
        actor_lr: Adam's learning rate for the actor.
        critic_lr: Adam's learning rate for the critic.
        tau: Share of the online networks that the target networks take over at each gradient step.
        batch_size: Transitions a gradient step.
        discount: Discount factor; 1 as the paper has it, since all steps share the final reward.
        replay_episodes: Episodes that the replay holds.
        warmup_episodes: Episodes that explore before the first gradient step.
        warmup_fraction: The warm-up takes at most this share of a search's episodes; 1 leaves `warmup_episodes` alone.
        warmup_actions: `"uniform"` draws ratios from [0, 1], `"noise"` adds the noise of `sigma` to the actor's.
        sigma: Standard deviation of the truncated normal exploration, in units of the pruning ratio.
        sigma_decay: Factor on sigma after each episode past the warm-up; None for the one that reaches `final_sigma`
            in the last episode.
        final_sigma: Sigma of the last episode if `sigma_decay` is None.
        gradient_steps: Gradient steps after each episode past the warm-up; -1 for one a decision.
        baseline_rate: Rate of the moving average that is subtracted from the rewards, in (0, 1]; 0 for no baseline.
        reward_scale: `"none"`, or `"std"` to divide rewards by the deviation of those in the replay.
        targets: `"bootstrap"` sums the shared reward over the steps that follow through the target critic, as the
            paper does; `"return"` fits the critic to the episode's reward itself, which is known exactly.
        stored_action: `"chosen"` keeps the action as the actor chose it in the replay, `"applied"` what the
            environment made of it under the budget.
        warm_start: Names of heuristics whose allocations are played first; they count as episodes.
        continued_sigma: Sigma of the first episode when a trained agent goes on; it then has no warm-up.
    """

    hidden: tuple[int, ...] = (300, 300)
    actor_lr: float = 1e-4
    critic_lr: float = 1e-3
    tau: float = 0.01
    batch_size: int = 64
    discount: float = 1.0
    replay_episodes: int = 100
    warmup_episodes: int = 100
    warmup_fraction: float = 1 / 3
    warmup_actions: Literal["uniform", "noise"] = "uniform"
    sigma: float = 0.5
    sigma_decay: float | None = 0.95
    final_sigma: float = 0.02
    gradient_steps: int = -1
    baseline_rate: float = 0.5
    reward_scale: Literal["none", "std"] = "none"
    targets: Literal["bootstrap", "return"] = "bootstrap"
    stored_action: Literal["chosen", "applied"] = "chosen"
    warm_start: tuple[str, ...] = ()
    continued_sigma: float = 0.1

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ConfigurationError: If one cannot be used.
        """
        positive = ("actor_lr", "critic_lr", "batch_size", "replay_episodes", "sigma", "final_sigma", "continued_sigma")
        for name in positive:
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"ddpg: {name} must be positive, not {getattr(self, name)}")
        for name in ("tau", "discount", "warmup_fraction", "baseline_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"ddpg: {name} must be in [0, 1], not {getattr(self, name)}")
        if self.sigma_decay is not None and not 0 < self.sigma_decay <= 1:
            raise ConfigurationError(f"ddpg: sigma_decay must be in (0, 1], not {self.sigma_decay}")
        if not self.hidden or min(self.hidden) < 1:
            raise ConfigurationError(f"ddpg: hidden must name at least one positive width, not {self.hidden}")
        if self.gradient_steps < -1:
            raise ConfigurationError(f"ddpg: gradient_steps must be -1 or at least 0, not {self.gradient_steps}")
        if self.warmup_episodes < 0:
            raise ConfigurationError(f"ddpg: warmup_episodes must not be negative, not {self.warmup_episodes}")

    def warmup(self, episodes: int) -> int:
        """Returns the warm-up episodes of a search of so many episodes."""
        return min(self.warmup_episodes, int(episodes * self.warmup_fraction))

    def decay(self, episodes: int) -> float:
        """Returns the factor on sigma after each of so many episodes past the warm-up."""
        if self.sigma_decay is not None:
            return self.sigma_decay
        return min(1.0, float((self.final_sigma / self.sigma) ** (1 / max(1, episodes - 1))))
