"""Readers of trained agents besides DDPG's own: policies of `amc train`, and other learners."""

from __future__ import annotations

from pathlib import Path

import mutations
from readers import Reader, small_environment

from agents import create_agent
from agents.ddpg.config import DDPGConfig
from agents.ddpg.trainer import PolicyTrainer
from agents.loading import load_agent


def trained_policy(folder: Path) -> Path:
    config = DDPGConfig(
        hidden=(8, 8), warmup_episodes=2, ensemble=2, ensemble_hidden=8, gradient_steps=1, proposals=4, warm_start=()
    )
    tasks = {"half": small_environment(), "a third": small_environment(0.33)}
    trainer = PolicyTrainer(tasks, config, episodes=8, seed=0)
    for _ in range(8):
        trainer.play()
    trainer.state().save(folder / "agent.safetensors")
    return folder / "agent.safetensors"


def _learner(folder: Path) -> Path:
    agent = create_agent("sac", warmup_episodes=2, batch_size=4)
    agent.search(small_environment(), 4, seed=0)
    agent.save(folder / "agent.safetensors")  # type: ignore[attr-defined]
    return folder / "agent.safetensors"


def _use_agent(folder: Path) -> object:
    return load_agent(folder / "agent.safetensors").act(small_environment())


AGENT_READERS = (
    Reader("policy of amc train by --policy", trained_policy, mutations.mutate_safetensors, _use_agent),
    Reader("sac's agent by --policy", _learner, mutations.mutate_safetensors, _use_agent),
)
