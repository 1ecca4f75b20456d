"""The options of the DDPG agent."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from amc.errors import ConfigurationError
from amc.utils.conversion import conform


@dataclass(frozen=True)
class DDPGConfig:
    """Options of the DDPG agent.

    `DDPGConfig.paper()` has the settings of the AMC paper (He et al., 2018, arXiv:1802.03494, sections 3.2 and 4) and
    its public code. The defaults are tuned for a few hundred episodes, and deviate from it:

    - `critic="episode"`: the paper's critic sees one layer's state and action, and has to average over what all
      other layers do, which is most of the reward's variance. A critic that sees the whole allocation explains it, and
      needs a fraction of the episodes. The actor still sees only the 11 features.
    - `stored_action="applied"`: the reward belongs to the allocation under the budget, not to the request.
    - `warm_start`, a warm-up of 12 episodes in place of 100, and exploration that starts at sigma 0.2 and ends at 0.03
      after 120 episodes, or in the last one of a shorter search: the paper's schedule needs 400 episodes, and its noise
      of 0.5 on [0, 1] is close to uniform. In a longer search, what is left refines the best allocations.
    - a replay of 1,000 episodes in place of 100: nothing is forgotten in a short search, and nothing in the reward of
      an old episode is out of date.
    - `proposals=64`: what the critic expects little of is not played, nor what was played before; scoring a candidate
      costs far more.
    - higher learning rates and `gradient_steps` that do not grow with the depth: fitted to short searches.

    Common to both, against the paper: the actor ends in a tanh that is rescaled to [0, 1] (Stable-Baselines3's way;
    the same function as a sigmoid of twice the input), networks start from PyTorch's weights in place of uniform
    ones within 0.003, and gradient steps are taken when an episode has ended, which is when its reward is known. As in
    the paper's public code, the warm-up draws uniformly and the replay is counted in episodes: the text has noise of
    sigma 0.5 around the actor's answers (`warmup_actions="noise"`), and 2,000 transitions.

    Attributes:
        scale: What the actor's answers, the noise and the episode critic are measured in: `"linear"` for pruning
            ratios, `"log"` for the logarithm of the keep ratio, `"auto"` for the latter where the budget leaves a
            quarter of the weights or less. Of the episode critic alone; the step critic of the preset `paper` is
            always linear.
        hidden: Widths of the hidden layers of the actor, and of the step critic.
        actor_lr: Adam's learning rate for the actor.
        critic_lr: Adam's learning rate for the critic.
        tau: Share of the online networks that the target networks take over at each gradient step (step critic).
        batch_size: Transitions (step critic) or episodes (episode critic) a gradient step.
        discount: Discount factor; 1 as the paper has it, since all steps share the final reward (step critic).
        replay_episodes: Episodes that the replay holds.
        warmup_episodes: Episodes that explore before the first gradient step.
        warmup_fraction: The warm-up takes at most this share of a search's episodes; 1 leaves `warmup_episodes` alone.
        warmup_actions: `"uniform"` draws from the whole scale, `"noise"` adds the noise of `sigma` to the actor's.
        sigma: Standard deviation of the truncated normal exploration, on the scale, which is 1 long.
        sigma_decay: Factor on sigma after each episode past the warm-up, however small it gets; None for the one that
            reaches `final_sigma` after `annealing_episodes`.
        final_sigma: The lowest sigma if `sigma_decay` is None.
        annealing_episodes: Episodes past the warm-up until sigma is `final_sigma`; a shorter search reaches it in its
            last episode.
        continued_sigma: Sigma at the start when a trained agent continues. It plays its first episode without noise,
            and has a warm-up, with this noise around what it knows, only if network, budget or reward are others.
        gradient_steps: Gradient steps after each episode past the warm-up; -1 for one a decision.
        environments: Episodes that are played side by side, in environments that share problem and evaluator, before
            the next gradient steps, of which there are then as many times more. A search's episodes must be a multiple.
        baseline_rate: Rate of the moving average that is subtracted from the rewards, in (0, 1]; 0 for no baseline
            (step critic; the episode critic standardises rewards).
        reward_scale: `"none"`, or `"std"` to divide rewards by the deviation of those in the replay (step critic).
        targets: `"bootstrap"` sums the shared reward over the steps that follow through the target critic, as the
            paper does; `"return"` fits the critic to the episode's reward itself, which is known (step critic).
        stored_action: `"chosen"` keeps the action as the actor chose it in the replay, `"applied"` what the
            environment made of it under the budget.
        proposals: Noisy plans of an episode past the warm-up, of which the critic chooses the one to be played, among
            those that lead to a new allocation if any does; 1 adds noise step by step, as the paper does (episode
            critic).
        elite_share: Share of the proposals that are drawn around the best allocations so far; the others are drawn
            around what the actor does in their place.
        warm_start: Names of heuristics whose allocations are played first; they count as episodes. Unset: uniform, erk,
            shallow and deep for channels, uniform, erk, lamp, global and dp for weights, those left out that look at
            what the evaluator does not know.
        critic: `"step"` sees one layer's state and action, `"episode"` the whole allocation.
        ensemble: Members of the episode critic.
        ensemble_hidden: Width of the two hidden layers of each member.
        pessimism: The actor maximises the members' mean minus this many of their standard deviations.
        elite_focus: The best episode is drawn e to this power times as often as the worst (episode critic).
    """

    scale: Literal["auto", "linear", "log"] = "auto"
    hidden: tuple[int, ...] = (300, 300)
    actor_lr: float = 1e-3
    critic_lr: float = 3e-3
    tau: float = 0.01
    batch_size: int = 64
    discount: float = 1.0
    replay_episodes: int = 1000
    warmup_episodes: int = 12
    warmup_fraction: float = 1 / 3
    warmup_actions: Literal["uniform", "noise"] = "uniform"
    sigma: float = 0.2
    sigma_decay: float | None = None
    final_sigma: float = 0.03
    annealing_episodes: int = 120
    continued_sigma: float = 0.1
    gradient_steps: int = 10
    environments: int = 1
    baseline_rate: float = 0.5
    reward_scale: Literal["none", "std"] = "none"
    targets: Literal["bootstrap", "return"] = "bootstrap"
    stored_action: Literal["chosen", "applied"] = "applied"
    proposals: int = 64
    elite_share: float = 0.25
    warm_start: tuple[str, ...] | None = None
    critic: Literal["step", "episode"] = "episode"
    ensemble: int = 5
    ensemble_hidden: int = 64
    pessimism: float = 0.5
    elite_focus: float = 1.0

    @staticmethod
    def paper() -> DDPGConfig:
        """Returns the paper's settings, with those of its public code where the paper is silent, or differs from it."""
        return DDPGConfig(
            actor_lr=1e-4,
            critic_lr=1e-3,
            replay_episodes=100,
            warmup_episodes=100,
            warmup_fraction=1.0,
            sigma=0.5,
            sigma_decay=0.95,
            gradient_steps=-1,
            stored_action="chosen",
            proposals=1,
            warm_start=(),
            critic="step",
        )

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ConfigurationError: If one cannot be used.
        """
        conform(self, "ddpg: ")
        for name in _POSITIVE:
            if not 0 < getattr(self, name) < inf:
                raise ConfigurationError(f"ddpg: {name} must be positive, not {getattr(self, name)}")
        for name in ("sigma", "final_sigma", "continued_sigma"):
            if getattr(self, name) > _LARGEST_SIGMA:
                raise ConfigurationError(f"ddpg: {name} must be at most {_LARGEST_SIGMA}, not {getattr(self, name)}")
        for name in ("tau", "discount", "elite_share", "warmup_fraction", "baseline_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"ddpg: {name} must be in [0, 1], not {getattr(self, name)}")
        if self.scale == "log" and self.critic == "step":
            raise ConfigurationError("ddpg: scale=log needs critic=episode, as the step critic sees pruning ratios")
        if self.sigma_decay is not None and not 0 < self.sigma_decay <= 1:
            raise ConfigurationError(f"ddpg: sigma_decay must be in (0, 1], not {self.sigma_decay}")
        if not self.hidden or min(self.hidden) < 1:
            raise ConfigurationError(f"ddpg: hidden must name at least one positive width, not {self.hidden}")
        if self.gradient_steps < -1:
            raise ConfigurationError(f"ddpg: gradient_steps must be -1 or at least 0, not {self.gradient_steps}")
        for name in ("pessimism", "elite_focus"):
            if not 0 <= getattr(self, name) <= _LARGEST_WEIGHT:
                raise ConfigurationError(f"ddpg: {name} must be in [0, {_LARGEST_WEIGHT}], not {getattr(self, name)}")
        if self.warmup_episodes < 0:
            raise ConfigurationError(f"ddpg: warmup_episodes must not be negative, not {self.warmup_episodes}")

    def warmup(self, episodes: int) -> int:
        """Returns the warm-up episodes of a search of `episodes` episodes."""
        return min(self.warmup_episodes, int(episodes * self.warmup_fraction))

    def annealing(self, sigma: float, episodes: int) -> tuple[float, float]:
        """Returns the factor on a first sigma after each of `episodes` episodes, and what sigma does not fall below."""
        if self.sigma_decay is not None:
            return self.sigma_decay, 0.0
        steps = min(episodes, self.annealing_episodes) - 1
        return min(1.0, float((self.final_sigma / sigma) ** (1 / max(1, steps)))), min(sigma, self.final_sigma)


_LARGEST_SIGMA = 10
"""On [0, 1] the truncated normal is practically uniform well before, and ever fewer draws would fall inside."""
_LARGEST_WEIGHT = 1000
"""The largest pessimism and elite_focus: more than this changes nothing, and far more overflows."""
_POSITIVE = (
    "actor_lr",
    "critic_lr",
    "batch_size",
    "replay_episodes",
    "sigma",
    "final_sigma",
    "annealing_episodes",
    "continued_sigma",
    "environments",
    "proposals",
    "ensemble",
    "ensemble_hidden",
)
