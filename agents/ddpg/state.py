"""A trained agent as tensors and JSON: saved and loaded without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from agents.agent_file import described, read_agent, write_agent
from agents.ddpg.config import DDPGConfig
from agents.ddpg.state_check import check_options
from agents.learnt_task import LearntTask
from agents.tensor_check import check_moments, check_networks, check_replay
from agents.tensors import flat_optimizer, moments_of, part_named, restore_moments
from amc.errors import CheckpointError
from amc.utils.conversion import convert, from_mapping

if TYPE_CHECKING:
    from agents.ddpg.algorithm import AllocationDDPG

FORMAT = "amc-ddpg-3"
_EPISODE = "episode-critic"
_MOST_UPDATES = 1 << 40
_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones")


@dataclass(frozen=True)
class TrainedState:
    """Everything that learning has changed.

    Attributes:
        config: The options of the agent that learnt.
        task: What it learnt.
        updates: Gradient steps taken.
        baseline: Moving average of the rewards; None before the first gradient step.
        tensors: Networks, targets, optimisers and replay by name, all on the CPU.
    """

    config: DDPGConfig
    task: LearntTask
    updates: int
    baseline: float | None
    tensors: dict[str, torch.Tensor]

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file, with the options and counters as JSON in its header."""
        record = {
            "format": FORMAT,
            "config": asdict(self.config),
            "task": asdict(self.task),
            "updates": self.updates,
            "baseline": self.baseline,
        }
        write_agent(path, record, self.tensors)

    @staticmethod
    def load(path: str | Path) -> TrainedState:
        """Reads what `save` wrote.

        Raises:
            CheckpointError: If the file cannot be read, or holds something else.
        """
        record, tensors = read_agent(path)
        if record["format"] != FORMAT:
            raise CheckpointError(
                f"{str(path)!r} must be an agent of format {FORMAT!r}, not {record['format']!r}; "
                "save it with DDPGAgent.save"
            )
        with described(path, "DDPGAgent.save"):
            return part_of(record, config_of(record), tensors)

    @property
    def tasks(self) -> tuple[LearntTask, ...]:
        """What it learnt."""
        return (self.task,)

    def for_task(self, task: LearntTask) -> TrainedState:
        """Returns the part that a search on a task starts from: all of it."""
        return self


def config_of(record: Mapping[str, Any]) -> DDPGConfig:
    """Reads the options of a file; those of before the scale was one were linear.

    Raises:
        ConfigurationError: If an option cannot be used.
    """
    return from_mapping(DDPGConfig, {"scale": "linear", **record["config"]})


def part_of(record: Mapping[str, Any], config: DDPGConfig, tensors: dict[str, torch.Tensor]) -> TrainedState:
    """Makes a state of a part of a header and of tensors.

    Raises:
        ConfigurationError: If a number is invalid.
        CheckpointError: If the options do not match the networks.
        KeyError: If a part is missing.
        ValueError: If a count is none.
    """
    task = LearntTask.from_dict(record["task"])
    baseline = convert(float | None, record["baseline"], "baseline")
    missing = {f"replay.{name}" for name in _ARRAYS} - tensors.keys()
    if missing:
        raise KeyError(*missing)
    updates = convert(int, record["updates"], "updates")
    if not 0 <= updates < _MOST_UPDATES:
        raise ValueError("updates must be a count")
    check_options(config, task, tensors)
    return TrainedState(config, task, updates, baseline, tensors)


def capture(algorithm: AllocationDDPG) -> TrainedState:
    """Copies what an algorithm has learnt."""
    tensors: dict[str, torch.Tensor] = {}
    for name, module in _modules(algorithm).items():
        tensors |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    for name, optimizer in _optimizers(algorithm).items():
        tensors |= flat_optimizer(name, optimizer)
    replay = algorithm.replay_buffer
    order = torch.arange(replay.size())  # oldest first
    if replay.full:
        order = (order + replay.pos) % replay.size()
    tensors |= {f"replay.{name}": torch.from_numpy(getattr(replay, name))[order] for name in _ARRAYS}
    copies = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    return TrainedState(algorithm.config, algorithm.task, algorithm._n_updates, replay.baseline, copies)


def restore(algorithm: AllocationDDPG, state: TrainedState) -> None:
    """Puts what was learnt into an algorithm.

    The actor and the critic of single steps fit any environment of the same kind of pruning, features and reward.
    The critic of whole episodes is taken over for the same network alone. The replay and the baseline are taken over
    for the same task alone: under another budget or reward, old rewards would keep misleading the agent.

    Every tensor is checked before any is used.

    Raises:
        CheckpointError: If the task is of another kind, state or reward, the networks are of another shape, or a tensor
            is not what it must be.
    """
    state.task.check_serves(algorithm.task)
    same = state.task.same_network(algorithm.task)
    modules, optimizers = _modules(algorithm), _optimizers(algorithm)
    wanted = [name for name in modules | optimizers if same or not name.startswith(_EPISODE)]
    parts = {name: part_named(state.tensors, f"{name}.") for name in wanted}
    _check_networks(algorithm, state, {name: modules[name].state_dict() for name in modules if name in parts}, parts)
    moments = {name: moments_of(parts[name]) for name in optimizers if name in parts}
    for name, found in moments.items():
        check_moments(optimizers[name], found)
    continues = state.task == algorithm.task
    if continues:
        _check_replay(algorithm, state)
    algorithm.take_scale(algorithm.scale_of(state.config))
    for name in parts.keys() & modules.keys():
        modules[name].load_state_dict(parts[name])
    for name, found in moments.items():
        restore_moments(optimizers[name], found)
    if continues:
        algorithm._n_updates = state.updates
        _restore_replay(algorithm, state)


def _check_networks(
    algorithm: AllocationDDPG,
    state: TrainedState,
    expected: dict[str, dict[str, torch.Tensor]],
    parts: dict[str, dict[str, torch.Tensor]],
) -> None:
    """Checks the networks of a state, and names the options that determine their shapes where these differ.

    Raises:
        CheckpointError: If they do not fit.
    """
    try:
        for name, tensors in expected.items():
            check_networks(tensors, parts[name])
    except CheckpointError as error:
        if _networks(state.config) == _networks(algorithm.config):
            raise
        raise CheckpointError(
            f"the agent's networks must be those that it was trained with, {_networks(state.config)}, "
            f"not {_networks(algorithm.config)}; use the same options"
        ) from error


def _networks(config: DDPGConfig) -> str:
    """Names the options that determine the networks' shapes."""
    return ", ".join(
        f"{name}={getattr(config, name)!r}" for name in ("hidden", "critic", "ensemble", "ensemble_hidden")
    )


def _modules(algorithm: AllocationDDPG) -> dict[str, nn.Module]:
    modules: dict[str, nn.Module] = {"policy": algorithm.policy}
    if algorithm.episode_learner is not None:
        modules[_EPISODE] = algorithm.episode_learner.critic
    return modules


def _optimizers(algorithm: AllocationDDPG) -> dict[str, torch.optim.Optimizer]:
    optimizers = {"actor.optimizer": algorithm.actor.optimizer, "critic.optimizer": algorithm.critic.optimizer}
    if algorithm.episode_learner is not None:
        optimizers[f"{_EPISODE}-optimizer"] = algorithm.episode_learner.optimizer
    return optimizers


def _check_replay(algorithm: AllocationDDPG, state: TrainedState) -> None:
    arrays = {name: torch.from_numpy(getattr(algorithm.replay_buffer, name)) for name in _ARRAYS}
    check_replay(arrays, part_named(state.tensors, "replay."), algorithm.decisions)


def _restore_replay(algorithm: AllocationDDPG, state: TrainedState) -> None:
    replay = algorithm.replay_buffer
    arrays = part_named(state.tensors, "replay.")
    held = min(len(arrays["rewards"]), replay.buffer_size)
    for name, values in arrays.items():
        getattr(replay, name)[:held] = values[len(values) - held :].numpy()
    replay.pos, replay.full = held % replay.buffer_size, held == replay.buffer_size
    replay.baseline = state.baseline
