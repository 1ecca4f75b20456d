"""Whether the options of a file match its networks."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from agents.agent_file import check_work
from amc.errors import CheckpointError

if TYPE_CHECKING:
    from agents.ddpg.config import DDPGConfig
    from agents.learnt_task import LearntTask

Tensors = Mapping[str, torch.Tensor]
_MOST_DRAWN = 1 << 23
"""Transitions, or episodes, that the gradient steps after one episode may see: the default takes 640."""


def check_options(config: DDPGConfig, task: LearntTask, tensors: Tensors) -> None:
    """Checks that the options of a file are plain, and no larger than the networks that it holds.

    Raises:
        CheckpointError: If they are not.
    """
    check_work(vars(config))
    steps = len(task.decisions) if config.gradient_steps < 0 else config.gradient_steps
    if steps * config.environments * config.batch_size > _MOST_DRAWN:
        raise CheckpointError(
            "an agent's gradient_steps, environments and batch_size must come to at most "
            f"{_MOST_DRAWN} examples for each episode, not {steps * config.environments * config.batch_size}"
        )
    for name in config.warm_start or ():
        if ":" in name:
            raise CheckpointError(f"an agent's file must not name code, and its warm_start names {name!r}")
    expected: dict[str, tuple[int, ...]] = {
        f"policy.actor.mu.{2 * place}.weight": (width, read)
        for place, (read, width) in enumerate(pairwise((len(task.features), *config.hidden)))
    }
    if config.critic == "episode":
        wide = config.ensemble_hidden
        expected["episode-critic.weights.0"] = (config.ensemble, len(task.decisions), wide)
        expected["episode-critic.weights.1"] = (config.ensemble, wide, wide)
    for name, shape in expected.items():
        if name not in tensors or tuple(tensors[name].shape[: len(shape)]) != shape:
            raise CheckpointError(
                f"the networks of an agent must be of its own options and features, and {name!r} is not"
            )
