"""The weights of a layer that may keep only some of them, in the sequential reconstruction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from amc.pruning.criteria.base import ChoosesAgain
from amc.pruning.regression.least_squares import NormalEquations
from amc.pruning.regression.restricted import Restriction
from amc.pruning.weight_patterns import UNSTRUCTURED, WeightPattern


@dataclass(frozen=True)
class SparseSolver:
    """Solves each layer for as many weights as it may keep; layers without a mask keep all.

    Where the criterion can choose on normal equations it chooses again on those of the pruned network, whose inputs are
    not those of the dense one; the masks then give the counts alone.

    Attributes:
        masks: Which weights of the dense network's layers stay, by the layer's name.
        criterion: What chose them; None to leave the choice as it is.
        pattern: Which weights stay or go together.
        importance: What a squared error of each output counts, `(O,)`, by the layer's name; layers that are not named
            go by the scale of the batch norm behind them.
    """

    masks: Mapping[str, Tensor]
    criterion: object
    pattern: WeightPattern = UNSTRUCTURED
    importance: Mapping[str, Tensor] = field(default_factory=dict)

    def __call__(self, layer: str, equations: NormalEquations, importance: Tensor) -> Tensor:
        """Returns the weights of a layer; see `amc.pruning.recovery.layer_refit.LayerSolver`."""
        mask = self.masks.get(layer)
        if mask is None:
            return equations.solution
        if isinstance(self.criterion, ChoosesAgain):
            counts = self.importance.get(layer, importance).to(importance)
            scores = self.criterion.on_equations(equations, counts)
            pattern = self.pattern if self.pattern.step(tuple(mask.shape)) else UNSTRUCTURED
            chosen = pattern.ranks(scores.reshape(mask.shape)) < int(mask.sum())
        else:
            chosen = mask
        mask = chosen.reshape(equations.right.shape).to(equations.right.device)
        return Restriction(equations.gram, mask).of(equations)
