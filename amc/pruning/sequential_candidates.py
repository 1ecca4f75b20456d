"""Candidates of weight pruning that are refit in sequence, as the delivered network is, on few images."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from amc.pruning.plan import PrunePlan
from amc.pruning.recovery.reconstruction import Reconstruction, ReconstructionOptions
from amc.pruning.recovery.sparse_solver import SparseSolver
from amc.pruning.regression.row_equations import intercept_sink
from amc.pruning.weight_pruner import WeightPruner
from amc.runtime.call import named_tensors
from amc.structure import Allocation
from amc.structure.slicing import set_tensors

_ROWS, _RIDGE = 4096, 1e-2


class SequentialCandidates:
    """Looks weights up, and corrects them for what the pruned network feeds each layer.

    The tables were fit on the dense network's activations. In a network of which nine weights in ten are gone later
    layers see something else, and re-estimated batch norms are no substitute for the delivery, which refits one layer
    after another: they rank candidates in another order. This does what the delivery does, on a few hundredths of the
    rows, with the weights that the tables have chosen and a ridge toward their values.
    """

    kind = "weight"

    def __init__(self, pruner: WeightPruner, images: Tensor) -> None:
        """Notes what the dense network computes.

        Args:
            pruner: Looks the weights up.
            images: Calibration images, `(N, C, H, W)`, where the network is.
        """
        self.model, self.structure, self._pruner = pruner.model, pruner.structure, pruner
        options = ReconstructionOptions(rows=_ROWS, ridge=_RIDGE, rectified=0, weighted=False)
        layers = [layer.name for layer in self.structure.layers]
        self._planned = Reconstruction.plan(
            self.model, self.model, self.structure, {}, images, options, sparse=frozenset(layers)
        )
        self._copy = copy.deepcopy(self.model)
        self._dense = {name: tensor.detach() for name, tensor in named_tensors(self.model).items()}
        self._refit = frozenset(self._tensors_of_jobs())

    def plan(self, allocation: Allocation) -> PrunePlan:
        """Looks up the weights of the layers that lose some, and refits all in sequence.

        Raises:
            ConfigurationError: If the allocation does not fit the network.
        """
        plan = self._pruner.plan(allocation)
        if not plan.tensors:  # the dense network
            return plan
        names = self._refit | plan.tensors.keys()
        set_tensors(self._copy, {name: plan.tensors.get(name, self._dense[name]).clone() for name in names})
        solver = SparseSolver(self._pruner.masks(allocation), None)
        self._planned.refit(self._copy, solver, from_dense=False)
        refit = named_tensors(self._copy)
        return PrunePlan({}, plan.widths, {name: refit[name].detach().clone() for name in names})

    def prune(self, allocation: Allocation) -> nn.Module:
        """Returns a copy of the network with the weights of `plan`.

        Raises:
            ConfigurationError: If the allocation does not fit the network.
        """
        pruned = copy.deepcopy(self.model)
        set_tensors(pruned, dict(self.plan(allocation).tensors))
        return pruned

    def _tensors_of_jobs(self) -> list[str]:
        """Returns what a refit may change."""
        jobs = [job.layer for job in self._planned.jobs.values()]
        sinks = [intercept_sink(self.model, layer.name, layer.batch_norm) for layer in jobs]
        return [*(layer.weight for layer in jobs), *(sink[1] for sink in sinks if sink is not None)]
