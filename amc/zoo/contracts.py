"""What must hold for every network that is cut, whatever its architecture."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from amc.costs.metrics import counted
from amc.errors import AmcError
from amc.export import export_model
from amc.export.verify import relative_difference
from amc.runtime.call import ExampleInput, call, tensors_in
from amc.storage.architecture import describe
from amc.storage.load import load
from amc.storage.names import WEIGHTS
from amc.storage.save import save_network
from amc.zoo.cases import Cut, idle_parameters

UNUSED = 0.01
"""Largest share of the budget that may be left unspent."""

TOLERANCE = 1e-4
"""Largest difference of outputs that must be the same, relative to the largest output."""

HEADER_BYTES = 200
"""Room for the name and shape of one tensor in a safetensors file."""


class ContractError(AmcError):
    """A network that was cut violates a contract."""


def budget_is_used(cut: Cut) -> None:
    """The budget holds on the FLOPs that are counted, and less than 1% of it is left."""
    limit, cost = cut.case.problem.limit, cut.flops
    assert limit is not None
    _demand(cost <= limit, f"{cost:,} FLOPs are over the budget of {limit:,}")
    _demand(cost >= (1 - UNUSED) * limit, f"{cost:,} FLOPs leave more than 1% of the budget of {limit:,}")


def costs_are_predicted(cut: Cut) -> None:
    """FLOPs and parameters are, to the integer, those that were predicted."""
    problem = cut.case.problem
    for metric, count in counted(cut.model, cut.case.example).items():
        predicted = problem.cost(cut.widths, metric)
        _demand(count == predicted, f"{metric}: {predicted:,} were predicted, {count:,} counted")


def candidate_is_what_is_delivered(cut: Cut) -> None:
    """The network that the search scores gives the logits of the one that is delivered."""
    network = cut.case.candidate.load(cut.allocation)
    prepare = cut.case.candidate.prepare
    example = tree_map(lambda item: prepare(item) if isinstance(item, Tensor) else item, cut.case.example)
    _demand_same(outputs(cut.model, cut.case.example), outputs(network, example))


def trains(cut: Cut) -> None:
    """It runs forward and backward in training mode, auxiliary heads included.

    Every parameter takes part, except those that take no part in the dense network: frozen ones, layers that never run.
    """
    idle = idle_parameters(cut.model, cut.case.example)
    if idle:
        idle -= cut.case.idle
    _demand(not idle, f"{len(idle)} parameters get no gradient, {sorted(idle)[:1]} first")


def loads_again(cut: Cut) -> None:
    """Saved and loaded by name, it gives the same logits, and its file shrinks as the parameters do."""
    case = cut.case
    with tempfile.TemporaryDirectory(prefix="amc-zoo-") as folder:
        kept = case.pruner.kept(cut.allocation)
        save_network(Path(folder), cut.model, describe(case.model, case.structure, kept, case.source))
        size = (Path(folder) / WEIGHTS).stat().st_size
        again = load(folder, model=None if case.rebuild is None else case.rebuild())
    _demand_same(outputs(cut.model, case.example), outputs(again, case.example))
    state = cut.model.state_dict()
    bound = sum(tensor.nbytes for tensor in state.values()) + HEADER_BYTES * (len(state) + 1)
    _demand(size <= bound, f"the file takes {size:,} bytes for tensors of {bound:,}")


def exports_to_onnx(cut: Cut) -> None:
    """In onnxruntime it computes the same from the ONNX file, for any batch size."""
    with tempfile.TemporaryDirectory(prefix="amc-zoo-") as folder:
        export_model(cut.model, Path(folder) / "model.onnx", "onnx", cut.case.example)


CONTRACTS: dict[str, Callable[[Cut], None]] = {
    "budget": budget_is_used,
    "costs": costs_are_predicted,
    "candidate": candidate_is_what_is_delivered,
    "training": trains,
    "loading": loads_again,
    "onnx": exports_to_onnx,
}
"""The contracts by name: each raises if it is broken."""


@torch.no_grad()
def outputs(model: nn.Module, example: ExampleInput) -> list[Tensor]:
    """Returns the output tensors of a network."""
    return tensors_in(call(model, example))


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ContractError(otherwise)


def _demand_same(expected: list[Tensor], found: list[Tensor]) -> None:
    difference = relative_difference(expected, found)
    _demand(difference <= TOLERANCE, f"the outputs differ by {difference:.1e} of the largest")
