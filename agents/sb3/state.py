"""What a learner of Stable-Baselines3 has learnt, as tensors and JSON: saved and loaded without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from stable_baselines3.common.save_util import recursive_getattr
from torch import nn

from agents.agent_file import described, read_agent, write_agent
from agents.learnt_task import LearntTask
from agents.tensor_check import check_moments, check_networks, check_replay, check_tensor
from agents.tensors import flat_optimizer, moments_of, part_named, restore_moments
from amc.errors import CheckpointError
from amc.utils.conversion import convert

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

SB3_FORMAT = "amc-sb3-1"
_REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


@dataclass(frozen=True)
class Sb3State:
    """Everything that learning has changed.

    Attributes:
        agent: Name of the learner.
        options: Its options.
        task: What it learnt.
        tensors: Networks, optimisers and replay by name, on the CPU.
    """

    agent: str
    options: Mapping[str, Any]
    task: LearntTask
    tensors: dict[str, torch.Tensor]

    @property
    def tasks(self) -> tuple[LearntTask, ...]:
        """What it learnt."""
        return (self.task,)

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file."""
        record = {"format": SB3_FORMAT, "agent": self.agent, "options": dict(self.options), "task": asdict(self.task)}
        write_agent(path, record, self.tensors)

    @staticmethod
    def load(path: str | Path) -> Sb3State:
        """Reads what `save` wrote.

        Raises:
            CheckpointError: If the file cannot be read, or holds something else.
        """
        record, tensors = read_agent(path)
        with described(path, "an agent"):
            options = convert(dict, record["options"], "options")
            return Sb3State(str(record["agent"]), options, LearntTask.from_dict(record["task"]), tensors)


def capture(algorithm: BaseAlgorithm) -> dict[str, torch.Tensor]:
    """Copies networks, optimisers and replay."""
    tensors: dict[str, torch.Tensor] = {}
    modules, optimizers, variables = _parts(algorithm)
    for name, module in modules.items():
        tensors |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        tensors |= flat_optimizer(name, optimizer)
    tensors |= variables
    replay = getattr(algorithm, "replay_buffer", None)
    if replay is not None:
        held = replay.size()
        tensors |= {f"replay.{name}": torch.from_numpy(getattr(replay, name)[:held]) for name in _REPLAY}
    return {name: value.detach().clone().contiguous() for name, value in tensors.items()}


def restore(algorithm: BaseAlgorithm, state: Sb3State, task: LearntTask) -> None:
    """Puts what was learnt into a new algorithm; the replay for the same task alone.

    Every tensor is checked before any is used.

    Args:
        algorithm: The algorithm.
        state: What was learnt.
        task: What it is to play.

    Raises:
        CheckpointError: If the task is of another kind, state or reward, or a tensor is not what it must be.
    """
    state.task.check_serves(task)
    modules, optimizers, variables = _parts(algorithm)
    networks = {}
    for name, module in modules.items():
        own = part_named(state.tensors, f"{name}.")
        strange = tuple(f"{other[len(name) + 1 :]}." for other in optimizers if other.startswith(f"{name}."))
        found = {key: value for key, value in own.items() if not key.startswith(strange or "\0")}
        check_networks(module.state_dict(), found)
        networks[name] = found
    for name, optimizer in optimizers.items():
        check_moments(optimizer, moments_of(part_named(state.tensors, f"{name}.")))
    for name, variable in variables.items():
        if name not in state.tensors:
            raise CheckpointError(f"an agent must hold the tensors of its networks, and {name!r} is missing")
        check_tensor(name, state.tensors[name], tuple(variable.shape), variable.dtype)
    held = _checked_replay(algorithm, state) if state.task == task else 0
    for name, module in modules.items():
        module.load_state_dict(networks[name])
    for name, optimizer in optimizers.items():
        restore_moments(optimizer, moments_of(part_named(state.tensors, f"{name}.")))
    for name, variable in variables.items():
        variable.data.copy_(state.tensors[name])
    _restore_replay(algorithm, state, held)


def _checked_replay(algorithm: BaseAlgorithm, state: Sb3State) -> int:
    """Returns how many steps the replay of a state holds, once it is checked; 0 for learners without one."""
    replay = getattr(algorithm, "replay_buffer", None)
    if replay is None:
        return 0
    arrays = {name: torch.from_numpy(getattr(replay, name)) for name in _REPLAY}
    found = part_named(state.tensors, "replay.")
    check_replay(arrays, found, len(state.task.decisions))
    return min(len(found["rewards"]), int(replay.buffer_size) - 1)


def _restore_replay(algorithm: BaseAlgorithm, state: Sb3State, held: int) -> None:
    if held:
        replay: Any = algorithm.replay_buffer  # type: ignore[attr-defined]
        for name, values in part_named(state.tensors, "replay.").items():
            getattr(replay, name)[:held] = values[len(values) - held :].numpy()
        replay.pos = held


def _parts(
    algorithm: BaseAlgorithm,
) -> tuple[dict[str, nn.Module], dict[str, torch.optim.Optimizer], dict[str, torch.Tensor]]:
    """Returns the networks, the optimisers, and the tensors that stand alone, such as SAC's temperature."""
    names, alone = algorithm._get_torch_save_params()
    found = {name: recursive_getattr(algorithm, name) for name in names}
    modules = {name: part for name, part in found.items() if isinstance(part, nn.Module)}
    optimizers = {name: part for name, part in found.items() if isinstance(part, torch.optim.Optimizer)}
    return modules, optimizers, {name: recursive_getattr(algorithm, name) for name in alone}
