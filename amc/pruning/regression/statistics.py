"""Second moments of the inputs of layers that read pruned channels, from calibration images.

The refit of a reader solves a least-squares problem whose target is the dense reader's own output, `Y = X W`, so the
normal equations need nothing but `X^T X`: the cross term is `X^T X W`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amc.pruning.regression.bare_weights import BareWeights
from amc.pruning.regression.patches import READER_TYPES, input_rows, reader_of, sample_rows
from amc.pruning.regression.row_moments import RowMoments, diagonal_blocks, outer
from amc.runtime.call import input_of
from amc.runtime.hooks import run_hooked


@dataclass(frozen=True)
class SamplingOptions:
    """How much of the calibration images enters the statistics.

    Attributes:
        rows: Output positions sampled for each layer, over all images; layers with fewer use all they have.
        max_features: Readers with more inputs than this (channels / groups * kernel positions) get the diagonal
            blocks of the Gram matrix only, one a channel: they are not refit.
        seed: Seed of the sampling.
    """

    rows: int = 60_000
    max_features: int = 4608
    seed: int = 0


@dataclass(frozen=True)
class Gram:
    """Second moments of a layer's input rows, averaged over the rows.

    Attributes:
        matrix: `(groups, d, d)` with d = channels / groups * kernel positions; or, where d is too large, the
            diagonal blocks alone, `(groups, channels / groups, positions, positions)`.
        mean: Mean row, `(groups, d)`: the Gram matrix's column for a constant input, which an intercept needs.
        rows: How many rows were averaged.
    """

    matrix: Tensor
    mean: Tensor
    rows: int

    @property
    def full(self) -> bool:
        """Whether the whole matrix is known, not only its diagonal blocks."""
        return self.matrix.dim() == 3


def gram_bytes(weight: Tensor, groups: int, max_features: int) -> int:
    """Returns the memory that the Gram matrix of a layer takes in float32, in bytes.

    Args:
        weight: The layer's weight, `(O, C / groups, *kernel)`.
        groups: Into how many regressions the layer falls.
        max_features: As in `SamplingOptions`.
    """
    features, positions = weight[0].numel(), weight[0, 0].numel()
    size = features * features if features <= max_features else features * positions
    return 4 * groups * size


def gather_grams(
    model: nn.Module,
    layers: Iterable[str],
    batches: Sequence[Tensor],
    options: SamplingOptions,
    after_batch: Callable[[], object] = lambda: None,
    bare: Mapping[str, Tensor] | None = None,
) -> dict[str, Gram]:
    """Runs the network once over the calibration images and gathers the Gram matrices of some layers.

    Args:
        model: The dense network, on the device of the batches; put into evaluation mode for the pass.
        layers: Names of the layers; those that are neither convolution nor linear layer, nor bare, are passed over.
        batches: Normalised images, each `(N, C, H, W)`.
        options: How many rows to sample.
        after_batch: Called after each batch.
        bare: The weights of layers that no module runs, by the layer's name; see `bare_weights.is_bare`.

    Returns:
        The Gram matrices by layer; layers that the forward pass neither calls as modules nor multiplies with have none.
    """
    images = sum(len(batch) for batch in batches)
    bare = bare or {}
    samplers: dict[str, _Sampler] = {}
    weights: dict[str, Tensor] = {}
    hooks = []
    for index, name in enumerate(dict.fromkeys(layers)):
        module, seed = reader_of(model, name), options.seed * 100_003 + index
        if name in bare:
            weights[name] = bare[name]
            samplers[name] = _Sampler(weights[name], options, len(batches), seed)
        elif module is not None:
            samplers[name] = _Sampler(module.weight, options, images, seed)
            hooks.append(module.register_forward_hook(samplers[name].hook, with_kwargs=True))
    watch = BareWeights(weights, lambda name, rows: samplers[name].add(rows)).watching() if weights else nullcontext()
    with watch:
        run_hooked(model, batches, hooks, after_batch)
    return {name: found.result() for name, found in samplers.items() if found.rows}


class _Sampler:
    """Samples rows of one layer's input, batch by batch, and sums their moments."""

    def __init__(self, weight: Tensor, options: SamplingOptions, parts: int, seed: int) -> None:
        """Starts empty.

        Args:
            weight: The layer's weight.
            options: How many rows to sample.
            parts: Into how many parts of the same size the pass falls: its images, or its batches.
            seed: Seed of the sampling.
        """
        self._options, self._parts = options, parts
        self._generator = torch.Generator().manual_seed(seed)
        full = weight[0].numel() <= options.max_features
        self._moments = RowMoments(outer if full else diagonal_blocks(weight[0, 0].numel()))

    def hook(self, module: nn.Module, inputs: tuple[Tensor, ...], named: Mapping[str, Tensor], output: Tensor) -> None:
        """Takes the layer's share of rows from one batch."""
        assert isinstance(module, READER_TYPES)
        read = input_of(inputs, named)
        total = output.numel() // output.shape[-1 if isinstance(module, nn.Linear) else 1]
        rows = self._drawn(total, len(read))
        features = input_rows(read.float(), tuple(output.shape[2:]), module, rows)
        self._moments.add(features, features)

    def add(self, read: Tensor) -> None:
        """Takes the share of a batch from what a bare weight is multiplied with, `(..., d)`."""
        features = read.reshape(-1, read.shape[-1])
        rows = self._drawn(len(features), 1)
        features = (features if rows is None else features[rows.to(features.device)]).float().unsqueeze(0)
        self._moments.add(features, features)

    def _drawn(self, total: int, parts: int) -> Tensor | None:
        """Draws the rows of some parts; rounded up, so that a layer with one row per image still uses every image."""
        return sample_rows(total, -(-self._options.rows * parts // self._parts), self._generator)

    @property
    def rows(self) -> int:
        """How many rows were seen."""
        return self._moments.rows

    def result(self) -> Gram:
        """Returns the averages."""
        return Gram(self._moments.products, self._moments.mean, self.rows)
