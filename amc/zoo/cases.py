"""A network with random weights, its structure, and two allocations that meet half of its FLOPs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from amc.costs import Budget
from amc.costs.counting import count_flops
from amc.errors import BudgetError, ModelError
from amc.models import create_model
from amc.models.factory import example_input_shape
from amc.problem import PruningProblem, filter_problem
from amc.pruning import CandidateNetwork, FilterPruner, TableOptions, build_tables
from amc.runtime.call import ExampleInput, call, failure_of, tensors_in
from amc.storage.source import ModelSource
from amc.structure import Allocation, ModelStructure
from amc.tracing.trace import trace_structure
from amc.zoo.packages import PACKAGED

KEEP = 0.5
"""Share of the FLOPs that the allocations keep."""
RULES = ("uniform", "random")
"""The allocations by which a case is cut."""


@dataclass(frozen=True)
class Case:
    """A traced network and the problem of cutting it.

    Attributes:
        name: Its name, as `amc.create_model` takes it.
        model: The dense network, in evaluation mode.
        source: How to build it again.
        example: One input: `(1, C, H, W)`, or what a network of another package takes.
        structure: Its structure.
        problem: The decisions, with half of the FLOPs as the budget.
        streams: Whether residual streams are cut, because the budget cannot be met otherwise.
        rebuild: Builds the dense network again if a file may not name it; None if its name suffices.
    """

    name: str
    model: nn.Module
    source: ModelSource
    example: ExampleInput
    structure: ModelStructure
    problem: PruningProblem
    streams: bool
    rebuild: Callable[[], nn.Module] | None = None

    @cached_property
    def pruner(self) -> FilterPruner:
        """Keeps the filters of the largest norm without refit, so that no images are needed."""
        table = build_tables(self.model, self.structure, [], TableOptions(criterion="l2", refit=False))
        return FilterPruner(self.model, self.structure, table)

    @cached_property
    def candidate(self) -> CandidateNetwork:
        """The network that a search would score."""
        return CandidateNetwork(self.pruner)

    @cached_property
    def idle(self) -> frozenset[str]:
        """Parameters of the dense network that training does not reach: frozen ones, and layers that it never runs."""
        return idle_parameters(copy.deepcopy(self.model), self.example)  # training changes statistics

    @property
    def size(self) -> int:
        """Length of the example's last axis: the width of an image, the number of tokens."""
        return int(tensors_in(self.example)[0].shape[-1])

    @property
    def prunable_share(self) -> float:
        """Share of the FLOPs that goes if every group that may be cut keeps a single channel."""
        widths = [1 if group.prunable else group.channels for group in self.structure.groups]
        left = sum(term.cost(widths) for term in self.structure.flops_terms)
        return 1.0 - left / self.structure.dense_flops


@dataclass(frozen=True)
class Cut:
    """A case cut by one allocation.

    Attributes:
        case: The case.
        rule: What made the allocation: `"uniform"` or `"random"`.
        widths: Channels kept, one number per decision.
        allocation: The same by name.
        model: The pruned network, in evaluation mode.
    """

    case: Case
    rule: str
    widths: tuple[int, ...]
    allocation: Allocation
    model: nn.Module

    @cached_property
    def flops(self) -> int:
        """FLOPs as fvcore counts them on the pruned network."""
        return count_flops(self.model, cast(Tensor, self.case.example))


def open_case(
    name: str, *, image_size: int | None = None, options: Mapping[str, Any] | None = None, seed: int = 0
) -> Case:
    """Builds a network with random weights, traces it and sets the budget.

    Args:
        name: As for `amc.create_model`, or one of `amc.zoo.packages.PACKAGED`.
        image_size: Height and width of the example; the network's usual one if None, or where it takes no other.
            Networks of other packages come with theirs.
        options: Passed to the network's constructor.
        seed: Seed of the weights and the example.

    Raises:
        AmcError: If the network cannot be built, traced, or cut to half of its FLOPs.
    """
    if name in PACKAGED:
        return _open_packaged(name, seed)
    model = create_model(name, seed=seed, **(options or {})).eval()
    vary_constants(model, seed)
    channels, height, width = example_input_shape(name)
    example = _image((1, channels, image_size or height, image_size or width), seed)
    if image_size is not None and failure_of(model, example) is not None:
        example = _image((1, channels, height, width), seed)
    structure = trace_structure(model, example)
    problem, streams = _problem(structure)
    return Case(name, model, ModelSource("name", name, dict(options or {})), example, structure, problem, streams)


def _image(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _open_packaged(name: str, seed: int) -> Case:
    """Builds a network of another package, traces it and sets the budget; see `open_case`."""
    packaged = PACKAGED[name]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = packaged.build().eval()
    vary_constants(model, seed)
    example = packaged.example()
    structure = trace_structure(model, example)
    problem, streams = _problem(structure)
    return Case(name, model, ModelSource.of(model), example, structure, problem, streams, packaged.build)


def cuts_of(case: Case, seed: int = 0, rules: Sequence[str] = RULES) -> Iterator[Cut]:
    """Yields the case cut by the uniform and by a random allocation, or by one of them."""
    decisions = len(case.problem.decisions)
    requests = {
        "uniform": [KEEP] * decisions,
        "random": np.random.default_rng(seed).uniform(0.1, 1.0, decisions).tolist(),
    }
    for rule in rules:
        widths = case.problem.project(requests[rule])
        allocation = case.problem.allocation(widths)
        yield Cut(case, rule, widths, allocation, case.pruner.prune(allocation).eval())


def idle_parameters(model: nn.Module, example: ExampleInput) -> frozenset[str]:
    """Runs a network forward and backward in training mode, and returns which parameters get no gradient."""
    model.train()
    try:
        losses = [output.float().square().mean() for output in tensors_in(call(model, _pair(example)))]
        torch.stack([loss for loss in losses if loss.requires_grad]).sum().backward()  # type: ignore[no-untyped-call]
        return frozenset(name for name, parameter in model.named_parameters() if parameter.grad is None)
    finally:
        model.eval().zero_grad()


def _pair(example: ExampleInput) -> Any:
    """Returns a batch of two different examples: batch norm needs two values a channel."""
    return tree_map(lambda item: torch.cat([item, item.flip(-1)]) if isinstance(item, Tensor) else item, example)


@torch.no_grad()
def vary_constants(model: nn.Module, seed: int) -> None:
    """Gives random values to tensors that start as constants (norms, layer scales), so that a wrong cut shows."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point() and tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all()):
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(0.6 + 0.8 * noise if bool(tensor.any()) else 0.4 * noise - 0.2)


def _problem(structure: ModelStructure) -> tuple[PruningProblem, bool]:
    """Leaves residual streams whole if half of the FLOPs can be removed without them."""
    budget = Budget(flops=KEEP)
    try:
        return filter_problem(structure, budget), False
    except (BudgetError, ModelError):
        return filter_problem(structure, budget, residual=True), True
