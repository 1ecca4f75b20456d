"""How much the network's output changes with the outputs of each layer: the weight of an error there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from amc.pruning.criteria.projected_gradients import NoGradientsError, ProjectedGradients, affordable_inputs
from amc.runtime.many_inputs import parts_of

_IMAGES, _AT_ONCE = 500, 25
"""Inputs that are looked at, and that run together, at most."""


@dataclass(frozen=True)
class OutputSensitivity:
    """The effect of errors in one layer's outputs on the network's output.

    Attributes:
        importance: The expected squared change of the network's output by an error of mean square 1 in each output of
            the layer, `(O,)`, float64; errors at different places are taken to be independent.
        energy: The same where the layer's outputs are missing altogether.
    """

    importance: Tensor
    energy: float


def gather_sensitivities(
    model: nn.Module, layers: Iterable[str], batches: Sequence[Any], *, centred: bool, seed: int = 0
) -> dict[str, OutputSensitivity]:
    """Measures the sensitivities of a network's output, on the first 500 images (of 224 x 224 pixels on the first 56).

    They are estimated by the gradients of two random projections for each image; see `ProjectedGradients`.

    Args:
        model: The dense network, on the device of the batches; it keeps its modes, flags and gradients.
        layers: Names of the layers. Those that return no tensor, such as whole attention modules, are passed over.
        batches: Calibration images, each `(N, C, H, W)`.
        centred: Whether a change of all outputs of an image by the same amount counts as none, as with logits.
        seed: Seed of the projections.

    Returns:
        By layer. Empty if the network cannot be differentiated.
    """
    gradients = ProjectedGradients(model, layers, centred=centred, seed=seed)
    sums = _Sums()
    seen, (images, at_once) = 0, affordable_inputs(batches[0] if batches else (), _IMAGES, _AT_ONCE)
    with gradients.watching():
        for part in (part for batch in batches for part in parts_of(batch, at_once)):
            if seen >= images:
                break
            seen += len(part)
            try:
                found = gradients.squares(part)
            except NoGradientsError:
                return {}
            for name, outputs, squares in found:
                sums.add(name, outputs, squares)
    return sums.result(seen)


class _Sums:
    """Sums squared gradients and outputs of layers."""

    def __init__(self) -> None:
        """Starts with nothing seen."""
        self._gradients: dict[str, Tensor] = {}
        self._outputs: dict[str, Tensor] = {}
        self._rows: dict[str, int] = defaultdict(int)

    def add(self, name: str, outputs: Tensor, squares: Tensor) -> None:
        """Adds what was found at one layer, `(rows, O)` each."""
        self._rows[name] += len(outputs)
        self._outputs[name] = self._outputs.get(name, 0.0) + outputs.double().square().sum(0)
        self._gradients[name] = self._gradients.get(name, 0.0) + squares.sum(0)

    def result(self, images: int) -> dict[str, OutputSensitivity]:
        """Returns what was found on as many images."""
        found = {}
        for name, gradients in self._gradients.items():
            importance = gradients / max(images, 1)
            if bool(gradients.isfinite().all()) and bool(gradients.any()):
                energy = float(importance @ self._outputs[name]) / max(self._rows[name], 1)
                found[name] = OutputSensitivity(importance, energy)
        return found
