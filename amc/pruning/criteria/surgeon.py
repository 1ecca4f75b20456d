"""The optimal brain surgeon as a criterion for single weights."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from amc.errors import ConfigurationError
from amc.pruning.criteria.evidence import GRAMS, Evidence, Needs
from amc.pruning.regression.least_squares import NormalEquations
from amc.pruning.regression.row_equations import row_equations
from amc.pruning.regression.wide_elimination import weight_prices
from amc.structure import LayerSpec


class OptimalBrainSurgeon:
    """What the removal of a weight costs when the other weights of its output are refit, one after the other.

    Hassibi and Stork, *Optimal brain surgeon* (1993); Frantar and Alistarh, *Optimal Brain Compression*
    (arXiv:2208.11580), section 4, ExactOBS: `w_p^2 / [H^-1]_pp` with H the Gram matrix of what the layer reads. A
    weight's score is what its removal costs in its turn. Deviations: an intercept makes up for means where the layer
    has a bias or a batch norm behind it, and an error counts by what it does to the network's output
    (`Evidence.importance`). Layers of more inputs than the sampling's `max_features` go by `w_p^2 H_pp`, which refits
    nothing; layers that are no product of a whole weight with their input (embeddings, attention between two sequences)
    by their squares. Where the effect of single outputs is not known, all scores of a layer add up to what its loss
    does to the network's output (`Evidence.energy`), so that scores of different layers are in one unit.
    """

    needs: ClassVar[Needs] = frozenset({GRAMS})

    def __init__(self, ridge: float = 1e-3, width: int = 640) -> None:
        """Takes the options.

        Args:
            ridge: Relative to the mean of the Gram matrix's diagonal; features per row are added. Above 0.
            width: Layers with more inputs than this (channels / groups * kernel positions) are eliminated by
                halves, in blocks of at most this many inputs and at most 256.

        Raises:
            ConfigurationError: If either is out of its range.
        """
        if not ridge > 0:
            raise ConfigurationError(f"obs: ridge must be above 0, not {ridge}; the default is 0.001")
        if width < 1:
            raise ConfigurationError(f"obs: width must be at least 1, not {width}; the default is 640")
        self._ridge, self._width = ridge, width

    def __call__(self, layer: LayerSpec, evidence: Evidence) -> Tensor:
        """Scores the weights of a layer, in the weight's shape."""
        weight, gram = evidence.tensors[layer.weight], evidence.gram(layer.name)
        equations = row_equations(evidence.model, layer, gram, self._ridge)
        importance, is_priced = evidence.importance(layer), evidence.knows_importance(layer)
        if equations is not None:
            prices = self.on_equations(equations, importance)
        elif gram is not None and not gram.full:
            rows = weight.double().reshape(len(gram.matrix), -1, weight[0].numel())
            diagonal = gram.matrix.double().diagonal(dim1=-2, dim2=-1).flatten(1)
            prices = rows.square() * diagonal[:, None] * importance.reshape(*rows.shape[:2], 1)
        else:
            prices, is_priced = weight.double().square(), False
        energy = evidence.energy(layer.name)
        if not is_priced and energy is not None:
            prices = prices * (energy / max(float(prices.sum()), torch.finfo(torch.float32).tiny))
        return prices.reshape(weight.shape)

    def on_equations(self, equations: NormalEquations, importance: Tensor) -> Tensor:
        """Scores the weights of a layer given its normal equations; see `amc.pruning.criteria.base.ChoosesAgain`."""
        return weight_prices(equations.gram, equations.solution, importance, width=self._width)
