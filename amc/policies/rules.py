"""How a policy is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agents import AGENTS, create_agent
from agents.ddpg.agent import DDPGAgent
from agents.ddpg.config import DDPGConfig
from agents.ddpg.trainer import check_for_several_tasks
from amc.errors import ConfigurationError
from amc.utils.conversion import check_seed, conform
from amc.utils.options import Chosen, spell
from envs.extra_features import EXTRA_FEATURES


@dataclass(frozen=True)
class TrainingRules:
    """How a policy is trained, whatever its tasks.

    Attributes:
        agent: `"ddpg"`, with or without options.
        episodes: Total number of episodes, over all tasks.
        seed: Seed of the agent.
        features: What the agent sees in addition to the paper's 11 features.
        first_images: Images of the search split on which an episode is scored first; see `amc.pipeline.racing`.
        allocation_mode: `"clip"` or `"project"`.
        evaluate_every: Episodes between evaluations without noise.
        checkpoint_every: Episodes between checkpoints.
        patience: Evaluations without a higher mean reward after which the training stops; 0 never stops it early.

    Raises:
        ConfigurationError: If an option cannot be used.
        UnknownNameError: If a feature does not exist.
    """

    agent: Chosen = "ddpg"
    episodes: int = 900
    seed: int = 0
    features: tuple[str, ...] = ("budget", "depth", "sensitivity", "dp")
    first_images: int | None = None
    allocation_mode: Literal["clip", "project"] = "clip"
    evaluate_every: int = 50
    checkpoint_every: int = 25
    patience: int = 0

    def __post_init__(self) -> None:
        """Checks the options."""
        object.__setattr__(self, "agent", spell(AGENTS, self.agent))
        conform(self)
        check_seed(self.seed)
        for name in self.features:
            EXTRA_FEATURES.get(name)
        for name in ("episodes", "evaluate_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"--{name} must be at least 1, not {getattr(self, name)}")
        if self.patience < 0:
            raise ConfigurationError(f"--patience must not be negative, not {self.patience}")
        check_for_several_tasks(self.ddpg)

    @property
    def ddpg(self) -> DDPGConfig:
        """The options of the agent.

        Raises:
            ConfigurationError: If it is an agent other than ddpg.
        """
        agent = create_agent(self.agent)
        if not isinstance(agent, DDPGAgent):
            raise ConfigurationError(f"amc train trains ddpg over several tasks, not {self.agent!r}; leave --agent out")
        return agent.config

    def is_due(self, episode: int) -> bool:
        """Returns whether a checkpoint is due after a number of episodes; there is one before every evaluation."""
        return episode > 0 and (episode % self.checkpoint_every == 0 or self.is_evaluated(episode))

    def is_evaluated(self, episode: int) -> bool:
        """Returns whether an evaluation is due after a number of episodes."""
        return episode > 0 and (episode % self.evaluate_every == 0 or episode == self.episodes)
