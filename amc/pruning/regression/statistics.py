"""Second moments of the inputs of layers that read pruned channels, from calibration images.

The refit of a reader solves a least-squares problem whose target is the dense reader's own output, `Y = X W`, so the
normal equations need nothing but `X^T X`: the cross term is `X^T X W`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amc.pruning.regression.patches import READER_TYPES, Reader, conv_groups, input_rows, reader_of, sample_rows
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


def gram_bytes(module: Reader, max_features: int) -> int:
    """Returns the memory that a layer's Gram matrix takes in float32, in bytes."""
    features = module.weight[0].numel()
    positions = module.weight[0, 0].numel()
    size = features * features if features <= max_features else features * positions
    return 4 * conv_groups(module) * size


def gather_grams(
    model: nn.Module,
    layers: Iterable[str],
    batches: Sequence[Tensor],
    options: SamplingOptions,
    after_batch: Callable[[], object] = lambda: None,
) -> dict[str, Gram]:
    """Runs the network once over the calibration images and gathers the Gram matrices of some layers.

    Args:
        model: The dense network, on the device of the batches; put into evaluation mode for the pass.
        layers: Names of the layers; those that are neither convolution nor linear layer are passed over.
        batches: Normalised images, each `(N, C, H, W)`.
        options: How many rows to sample.
        after_batch: Called after each batch.

    Returns:
        The Gram matrices by layer; layers that the forward pass does not call as modules have none.
    """
    images = sum(len(batch) for batch in batches)
    samplers: dict[str, _Sampler] = {}
    hooks = []
    for index, name in enumerate(dict.fromkeys(layers)):
        module = reader_of(model, name)
        if module is not None:
            samplers[name] = _Sampler(module, options, images, options.seed * 100_003 + index)
            hooks.append(module.register_forward_hook(samplers[name].hook, with_kwargs=True))
    run_hooked(model, batches, hooks, after_batch)
    return {name: found.result() for name, found in samplers.items() if found.rows}


class _Sampler:
    """Samples rows of one layer's input, batch by batch, and sums their moments."""

    def __init__(self, module: Reader, options: SamplingOptions, images: int, seed: int) -> None:
        """Starts empty; `images` is how many images the whole pass will show."""
        self._options, self._images = options, images
        self._generator = torch.Generator().manual_seed(seed)
        full = module.weight[0].numel() <= options.max_features
        self._moments = RowMoments(outer if full else diagonal_blocks(module.weight[0, 0].numel()))

    def hook(self, module: nn.Module, inputs: tuple[Tensor, ...], named: Mapping[str, Tensor], output: Tensor) -> None:
        """Takes the layer's share of rows from one batch."""
        assert isinstance(module, READER_TYPES)
        read = input_of(inputs, named)
        total = output.numel() // output.shape[-1 if isinstance(module, nn.Linear) else 1]
        # Rounded up, so that a layer with one position per image still uses every image.
        share = -(-self._options.rows * len(read) // self._images)
        rows = sample_rows(total, share, self._generator)
        features = input_rows(read.float(), tuple(output.shape[2:]), module, rows)
        self._moments.add(features, features)

    @property
    def rows(self) -> int:
        """How many rows were seen."""
        return self._moments.rows

    def result(self) -> Gram:
        """Returns the averages."""
        return Gram(self._moments.products, self._moments.mean, self.rows)
