"""Which output positions of a layer its regression is solved on: most of all those that sway the network's output."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from amc.pruning.criteria.projected_gradients import ProjectedGradients
from amc.pruning.regression.patches import sample_rows
from amc.runtime.call import call
from amc.runtime.outputs import main_output

_VALUES, _VALUES_AT_ONCE = 1 << 23, 1 << 19
"""Values of the images that are looked at, and of those that run together."""
_BY_SWAY = 0.7
"""Share of the rows that are drawn by what they do to the output; the others are drawn alike."""


def row_weights(model: nn.Module, layers: Collection[str], images: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """Measures how much each output position of each layer sways the network's output.

    At most 8 million values of images are looked at: 2,730 images of CIFAR-10, 56 of 224 x 224 pixels. The positions of
    the others get what the same positions have in the mean.

    Args:
        model: The dense network, on the device of the images.
        layers: Names of the layers; each runs once for every image.
        images: Calibration images, `(N, C, H, W)`.
        seed: Seed of the projections.

    Returns:
        By layer, `(N * positions,)`, in the order of `amc.pruning.regression.patches.output_rows`. Empty if the network
        cannot be differentiated.
    """
    values = max(1, images[0].numel())
    seen, at_once = images[: -(-_VALUES // values)], max(1, min(100, _VALUES_AT_ONCE // values))
    gradients = ProjectedGradients(model, layers, centred=False, seed=seed)
    parts: dict[str, list[Tensor]] = {name: [] for name in layers}
    with gradients.watching():
        for first in range(0, len(seen), at_once):
            try:
                for name, _, squares in gradients.squares(main_output(call(model, seen[first : first + at_once]))):
                    parts[name].append(squares.sum(1).float())
            except RuntimeError:  # operators without a gradient
                return {}
    found = {name: torch.cat(part).reshape(len(seen), -1) for name, part in parts.items() if part}
    rest = len(images) - len(seen)
    return {
        name: torch.cat([weights, weights.mean(0, keepdim=True).expand(rest, -1)]).flatten()
        for name, weights in found.items()
        if weights.isfinite().all()
    }


def draw_rows(weights: Tensor | None, total: int, limit: int, generator: torch.Generator) -> Tensor:
    """Draws output positions.

    Args:
        weights: How much each position counts, `(total,)`; if None, or zero everywhere, all count alike.
        total: How many positions there are.
        limit: How many to take at most.
        generator: Source of randomness, on the CPU.

    Returns:
        Positions, rising, on the CPU: all of them if there are no more than the limit; else as many as the limit, some
        of them more than once if they are weighted.
    """
    if weights is None or total <= limit or not weights.any():
        rows = sample_rows(total, limit, generator)
        return torch.arange(total) if rows is None else rows
    weights = weights.double().cpu()
    sums = (_BY_SWAY * weights / weights.sum() + (1 - _BY_SWAY) / total).cumsum(0)
    places = torch.arange(limit, dtype=torch.float64) + torch.rand(limit, generator=generator, dtype=torch.float64)
    return torch.searchsorted(sums, places / limit * sums[-1]).clamp_max(total - 1)
