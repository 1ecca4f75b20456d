"""Which output positions of a layer its regression is solved on: most of all those that sway the network's output."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from amc.pruning.criteria.projected_gradients import NoGradientsError, ProjectedGradients, affordable_inputs
from amc.pruning.regression.patches import sample_rows
from amc.runtime.many_inputs import Inputs, parts_of

_AT_ONCE = 100
"""Images that run together at most."""
_INPUTS, _INPUTS_AT_ONCE = 500, 25
"""Inputs of several tensors that are looked at, and that run together."""
_BY_SWAY = 0.7
"""Share of the rows that are drawn by what they do to the output; the others are drawn alike."""


def row_weights(
    model: nn.Module, positions: Mapping[str, int], images: Tensor | Inputs, seed: int = 0
) -> dict[str, Tensor]:
    """Measures how much each output position of each layer sways the network's output.

    At most 8 million values of images are looked at: 2,731 images of CIFAR-10, 56 of 224 x 224 pixels; of inputs that
    are tuples or mappings 500. The positions of the others get what the same positions have in the mean.

    Args:
        model: The dense network, on the device of the images; it stays as it is.
        positions: Output positions of one image, by the name of the layer.
        images: Calibration images, `(N, C, H, W)`, or inputs of another form.
        seed: Seed of the projections.

    Returns:
        By layer, `(N * positions,)`, in the order of `amc.pruning.regression.patches.output_rows`, without layers that
        do not run once for every image, such as experts. Empty if the network cannot be differentiated.
    """
    most, together = (len(images), _AT_ONCE) if isinstance(images, Tensor) else (_INPUTS, _INPUTS_AT_ONCE)
    count, at_once = affordable_inputs(images, min(most, len(images)), together)
    gradients = ProjectedGradients(model, positions, centred=False, seed=seed)
    parts: dict[str, list[Tensor]] = {name: [] for name in positions}
    with gradients.watching():
        for part in parts_of(images[:count], at_once):
            try:
                found = gradients.squares(part)
            except NoGradientsError:
                return {}
            for name, _, squares in found:
                parts[name].append(squares.sum(1).float())
    weights = {name: torch.cat(part) for name, part in parts.items() if part}
    return {
        name: _for_all(flat.reshape(count, -1), len(images))
        for name, flat in weights.items()
        if len(flat) == count * positions[name] and flat.isfinite().all()
    }


def _for_all(weights: Tensor, images: int) -> Tensor:
    """Gives the positions of other images the mean weight of each place."""
    others = weights.mean(0, keepdim=True).expand(images - len(weights), -1)
    return torch.cat([weights, others]).flatten()


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
