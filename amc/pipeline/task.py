"""What a run works on: a network, its data, what may be cut, and how networks are measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import Any

import torch
from torch import Tensor, nn

from amc.costs import Budget
from amc.costs.metrics import LATENCY, MEMORY
from amc.data import DataRoles
from amc.errors import BudgetError, ConfigurationError
from amc.latency.target import LatencyTarget
from amc.problem import PruningProblem, filter_problem, weight_problem
from amc.problem.filter_problem import CostOfChannels
from amc.pruning.config import PruningConfig
from amc.runtime import resolve_device
from amc.runtime.many_inputs import Inputs
from amc.structure import ModelStructure
from amc.training import evaluate
from amc.training.config import FineTuneConfig, TrainConfig
from amc.training.work import ONE, Processes
from amc.utils.progress import Progress, silent


@dataclass(frozen=True)
class Task:
    """Everything about a run that does not change while it works.

    Attributes:
        model: The dense network.
        data: Its data in four roles; None where `measure` and `tune` replace it.
        structure: The traced network.
        problem: The decisions, what they cost, and the budget.
        example_input: One input of the network, for counting FLOPs.
        pruning: How it is pruned.
        finetune: How the pruned networks are fine-tuned.
        measure: The user's own figure of merit of a network (higher is better), in place of the accuracy.
        tune: The user's own fine-tuning, in place.
        calibration: Inputs without targets for statistics, refit and batch norms, in place of the data's own: a tensor,
            or `amc.runtime.many_inputs.Inputs`.
        seed: Seed of everything random.
        device: Where to compute.
        dtype: Number format in which candidates are scored: auto, float32 or bfloat16.
        schedule: In which rounds the pruned networks are made; see `amc.pruning.schedules`.
        train: How the dense network was trained, for schedules that train networks the same way.
        initial: The dense network's weights before its training, by name; None if they are not known.
        latency: The device of a time budget; None without a profile.
        processes: The processes that share the trainings.
    """

    model: nn.Module
    data: DataRoles | None
    structure: ModelStructure
    problem: PruningProblem
    example_input: Any
    pruning: PruningConfig = field(default_factory=PruningConfig)
    finetune: FineTuneConfig = field(default_factory=FineTuneConfig)
    measure: Callable[[nn.Module], float] | None = None
    tune: Callable[[nn.Module], object] | None = None
    calibration: Any | None = None
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    schedule: str = "one_shot"
    train: TrainConfig = field(default_factory=TrainConfig)
    initial: Mapping[str, Tensor] | None = None
    latency: LatencyTarget | None = None
    processes: Processes = ONE

    def calibration_inputs(self) -> Any | None:
        """Returns the inputs for statistics, refit and batch norms, where the network is; None if there are none."""
        inputs = self.calibration
        if inputs is None:
            inputs = None if self.data is None else self.data.calibration.inputs()
        return None if inputs is None else inputs.to(resolve_device(self.device))

    def test(self, model: nn.Module, advance: Progress = silent) -> float:
        """Returns the figure to report of a network: the task's metric on the test split, or the user's own."""
        if self.measure is not None:
            return self.measured(model)
        assert self.data is not None
        return evaluate(model, self.data.test, device=self.device, task=self.data.task, advance=advance).accuracy

    def searched(self, model: nn.Module, advance: Progress = silent) -> float:
        """Returns the figure of a network on the search split, or the user's own."""
        if self.measure is not None:
            return self.measured(model)
        assert self.data is not None
        return evaluate(model, self.data.search, device=self.device, task=self.data.task, advance=advance).accuracy

    def measured(self, model: nn.Module) -> float:
        """Returns the user's own figure of merit of a network.

        Raises:
            ConfigurationError: If the user's function returns no finite number, or changes the network.
        """
        assert self.measure is not None
        before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        value = self.measure(model)
        after = model.state_dict()
        changed = [name for name, tensor in before.items() if not _same(tensor, after.get(name))]
        if changed:
            raise ConfigurationError(
                f"evaluate(model) must leave the network as it is, but changes {changed[0]!r}; call model.eval() and "
                "train nothing in it, or let it work on copy.deepcopy(model)"
            )
        try:
            figure = float(value)
        except (TypeError, ValueError):
            figure = nan
        if not isfinite(figure):
            raise ConfigurationError(f"evaluate(model) must return a finite number, higher is better, not {value!r}")
        return figure


def _same(before: Tensor, after: Tensor | None) -> bool:
    """Returns whether a tensor is unchanged, NaN included."""
    return after is not None and torch.equal(before.nan_to_num(), after.nan_to_num())


def build_problem(
    structure: ModelStructure,
    budget: Budget | None,
    pruning: PruningConfig,
    latency: LatencyTarget | None = None,
    memory: CostOfChannels | None = None,
) -> PruningProblem:
    """Builds the pruning problem of a network under the user's rules.

    Args:
        structure: The traced network.
        budget: What the pruned network may cost.
        pruning: The user's rules.
        latency: The device of a time budget.
        memory: Makes the cost model of the activations' peak memory; called only if the budget bounds it.

    Raises:
        BudgetError: If no allocation meets the budget, or a time budget has no profile that fits.
        ModelError: If there is nothing to prune.
        UnknownNameError: If a pattern of `exclude` or `bounds` matches no layer.
        ConfigurationError: If the bounds are malformed or leave no width.
    """
    least = {} if pruning.min_keep_ratio is None else {"min_keep_ratio": pruning.min_keep_ratio}
    rules: dict[str, Any] = {
        **least,
        "max_keep_ratio": pruning.max_keep_ratio,
        "exclude": pruning.exclude,
        "bounds": pruning.bounds,
    }
    if latency is None and budget is not None and LATENCY in budget.bounds:
        raise BudgetError(
            "a time budget needs a profile of the device: make one with 'amc profile --out FILE', and give it with "
            "--budget.profile FILE (in Python Budget(..., profile=FILE))"
        )
    bounds_memory = budget is not None and MEMORY in budget.bounds
    if pruning.family == "weight" and (latency is not None or bounds_memory):
        raise BudgetError("zeros do not make a network faster: bounds on time and memory are for pruning.family filter")
    if pruning.family == "weight":
        step = pruning.round_to if isinstance(pruning.round_to, int) else 1
        return weight_problem(structure, budget, pattern=pruning.pattern, round_to=step, **rules)
    if pruning.blocks and (latency is not None or bounds_memory):
        raise BudgetError(
            "bounds on time and memory do not know yet what a dropped block saves; bound flops, params or size_bytes, "
            "or leave pruning.blocks out"
        )
    makers = {LATENCY: None if latency is None else latency.cost_model, MEMORY: memory if bounds_memory else None}
    measured = {name: maker for name, maker in makers.items() if maker is not None}
    problem = filter_problem(
        structure, budget, residual=pruning.residual, round_to=pruning.round_to, measured=measured, **rules
    )
    if latency is not None:
        latency.check_steps(problem)
    return problem


def problem_at(task: Task, metric: str, budget: float) -> PruningProblem:
    """Returns the problem of a task at a budget of its own.

    Args:
        task: The task.
        metric: What the budget bounds, such as `"flops"`.
        budget: Share kept of the dense cost, or a count.

    Raises:
        BudgetError: If the budget cannot be met.
    """
    return build_problem(task.structure, Budget.of({metric: budget}), task.pruning)


def example_of(data: DataRoles | None, example_input: Any | None, calibration: Any | None = None) -> Any:
    """Returns the example input: the user's, one of the calibration inputs, or one image of the data, `(1, C, H, W)`.

    Raises:
        ConfigurationError: If there is neither.
    """
    if example_input is not None:
        return example_input
    if calibration is not None:
        first = calibration[:1]
        return first.value if isinstance(first, Inputs) else first
    if data is None:
        raise ConfigurationError("without data an example input must be given: amc.OwnTask(..., example_input=...)")
    image: Tensor = data.calibration.take([0]).inputs()
    return image
