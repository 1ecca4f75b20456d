"""Kept weights and their refitted values, for every layer at a grid of sparsities.

Computed once, looked up in every episode.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from math import ceil, prod

import torch
from torch import Tensor, nn

from amc.pruning.criteria.base import WeightCriterion, weight_scores
from amc.pruning.criteria.evidence import Evidence
from amc.pruning.regression.bare_weights import is_bare
from amc.pruning.regression.restricted import Restriction
from amc.pruning.regression.row_equations import row_equations
from amc.pruning.weight_patterns import UNSTRUCTURED, WeightPattern
from amc.structure import LayerSpec, ModelStructure
from amc.utils.progress import Progress, silent, steps_of


@dataclass(frozen=True)
class WeightTableOptions:
    """How the grid is laid, and what the tables may take.

    Attributes:
        refit: Whether the weights that stay are refit by least squares; without, they keep their values.
        shrinkage: Share of a grid count that the next smaller one keeps, between 0 and 1.
        smallest: Smallest share of a layer's weights that is tabulated, above 0.
        memory: Bound on the values of all tables, in bytes; where they do not fit, the grids are thinned out.
        pattern: Which weights stay or go together; layers that it does not fit are ranked one weight at a time.
    """

    refit: bool = True
    shrinkage: float = 0.85
    smallest: float = 0.01
    memory: int = 1 << 30
    pattern: WeightPattern = UNSTRUCTURED


@dataclass(frozen=True)
class LayerTable:
    """What is known of one layer at every count of weights.

    Attributes:
        weight: The dense weight, `(O, C, *kernel)` or `(O, C)`.
        ranks: The place of every weight in the order of importance, from 0, int32 of the weight's shape: those that
            stay are those of a rank below the count.
        grid: The counts that are tabulated, rising to all weights; empty without refit.
        values: By count, the refitted values of the weights that stay, `(count,)`, in memory order.
        intercepts: By count, what the refit adds to the layer's outputs, `(O,)`; empty where nothing can take it.
        errors: By count, from none up, the squared error of the outputs, each counted by what it does to the network's
            output (see `Evidence.importance`); empty where that is not known of outputs that no module returns.
    """

    weight: Tensor
    ranks: Tensor
    grid: tuple[int, ...] = ()
    values: Mapping[int, Tensor] = field(default_factory=dict)
    intercepts: Mapping[int, Tensor] = field(default_factory=dict)
    errors: Mapping[int, float] = field(default_factory=dict)

    def lookup(self, count: int) -> tuple[Tensor, Tensor | None]:
        """Looks up a layer at any count.

        A count between two of the grid takes values between theirs: those of the larger, moved toward those of the
        smaller by the share of the weights between the two that are gone.

        Args:
            count: Weights kept, at least 1.

        Returns:
            The weight, zero where it is pruned, and what to add to the outputs, or None.
        """
        mask = self.ranks < count
        if not self.grid:
            return self.weight.masked_fill(~mask, 0.0), None
        above = next(found for found in self.grid if found >= count)
        weight, intercept = self._at(above), self.intercepts.get(above)
        below = max((found for found in self.grid if found < above), default=above)
        if count != above and below != above:
            share = (above - count) / (above - below)
            weight = torch.where(self.ranks < below, weight.lerp(self._at(below), share), weight)
            if intercept is not None:
                intercept = intercept.lerp(self.intercepts[below], share)
        return weight.masked_fill(~mask, 0.0), intercept

    def _at(self, count: int) -> Tensor:
        """Returns the weight at a count of the grid."""
        return torch.zeros_like(self.weight).masked_scatter_(self.ranks < count, self.values[count])


@dataclass(frozen=True)
class WeightTable:
    """The tables of all layers that may lose weights.

    Attributes:
        layers: By the layer's name.
        memory: What the values take, in bytes.
    """

    layers: Mapping[str, LayerTable]
    memory: int


def build_weight_tables(
    model: nn.Module,
    structure: ModelStructure,
    criterion: WeightCriterion,
    evidence: Evidence,
    options: WeightTableOptions | None = None,
    advance: Progress = silent,
    *,
    only: Container[str] | None = None,
) -> WeightTable:
    """Ranks the weights of every layer and refits those that stay at every count of a grid.

    The target of the refit is the dense layer's own output on its own input, so the Gram matrix of the input is all
    that is needed. Layers that are no product of a whole weight with their input (embeddings, attention between two
    sequences), and those with more inputs than the Gram matrices hold in full, are ranked and not refit.

    Args:
        model: The dense network.
        structure: Its structure.
        criterion: Scores the weights of a layer.
        evidence: What the criterion looks at, and the Gram matrices.
        options: How to tabulate.
        advance: Takes the share that is done, 0 to 1, as it grows.
        only: Names of the layers that may lose weights; None for all.

    Raises:
        ConfigurationError: If calibration images are needed and there are none, or the criterion returns no scores.
    """
    options = options or WeightTableOptions()
    layers = [layer for layer in structure.layers if only is None or layer.name in only]
    grids = count_grids({layer.name: layer.matrix_shape for layer in layers}, options)
    step = steps_of(len(layers), advance)
    tables = {}
    for layer in layers:
        weight = evidence.tensors[layer.weight]
        pattern = options.pattern if options.pattern.step(layer.matrix_shape) else UNSTRUCTURED
        scores = weight_scores(criterion, layer, evidence)
        if pattern is UNSTRUCTURED:  # what an earlier round has set to zero goes first, whatever the criterion says
            scores = scores.masked_fill(weight == 0, -torch.inf)
        ranked = layer.axes.from_matrix(pattern.ranks(layer.axes.to_matrix(scores)), layer.weight_shape)
        tables[layer.name] = LayerTable(weight, ranked)
        if options.refit:
            tables[layer.name] = _tabulate(model, layer, weight, ranked, grids[layer.name], evidence)
        step()
    return WeightTable(tables, sum(4 * sum(table.grid) for table in tables.values()))


def count_grids(shapes: Mapping[str, tuple[int, ...]], options: WeightTableOptions) -> dict[str, tuple[int, ...]]:
    """Chooses the counts to tabulate, so that all values together stay under the memory bound.

    Args:
        shapes: Shape of the weight by layer, `(O, C, *kernel)`.
        options: Has the shrinkage, the smallest share, the bound and the pattern.

    Returns:
        By layer, rising counts that the pattern allows, near a geometric series, and all weights; the shrinkage is
        squared until the values fit.
    """
    shrinkage = options.shrinkage
    while True:
        grids = {
            name: _grid(prod(shape), shrinkage, options.smallest, options.pattern.step(shape) or 1)
            for name, shape in shapes.items()
        }
        if 4 * sum(sum(grid) for grid in grids.values()) <= options.memory or shrinkage < options.smallest:
            return grids
        shrinkage **= 2


def _grid(size: int, shrinkage: float, smallest: float, step: int) -> tuple[int, ...]:
    """Returns the counts of one layer, multiples of a step."""
    least, counts = max(1, ceil(smallest * size / step)), [size // step]
    while counts[-1] > least:
        counts.append(max(least, min(counts[-1] - 1, round(counts[-1] * shrinkage))))
    return tuple(count * step for count in reversed(counts))


def _tabulate(
    model: nn.Module, layer: LayerSpec, weight: Tensor, ranked: Tensor, grid: tuple[int, ...], evidence: Evidence
) -> LayerTable:
    """Refits one layer at every count of its grid."""
    equations = row_equations(model, layer, evidence.gram(layer.name), evidence.options.ridge)
    if equations is None:
        return LayerTable(weight, ranked)
    values, intercepts, errors = {}, {}, {}
    is_known = evidence.knows_importance(layer) or not is_bare(model, layer)
    importance = evidence.importance(layer) if is_known else None
    if importance is not None:
        errors[0] = equations.error(torch.zeros_like(equations.solution), importance)
    for count in grid:
        mask = (ranked < count).reshape(equations.solution.shape)
        solved = Restriction(equations.gram, mask).of(equations)
        values[count] = solved.reshape(weight.shape)[ranked < count].to(weight.dtype)
        if importance is not None:
            errors[count] = equations.error(solved, importance)
        if equations.intercept:
            intercepts[count] = equations.constant(solved).to(weight.dtype)
    return LayerTable(weight, ranked, grid, values, intercepts, errors)
