"""The Erdos-Renyi heuristics: layers with few weights for their channels keep more of them."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, ClassVar

from agents.heuristics.base import Heuristic

if TYPE_CHECKING:
    from amc.problem import PruningProblem
    from amc.structure.model_structure import LayerSpec


class ErdosRenyiKernel(Heuristic):
    """Keeps more of layers that have few weights for their channels.

    The density of a layer is proportional to `(n_in + n_out + k_h + k_w) / (n_in * n_out * k_h * k_w)` (Evci et al.,
    "Rigging the Lottery", 2020, arXiv:1911.11134, section 3), capped at dense, and scaled by one common factor so that
    the budget is met.

    For weight pruning the density is the layer's keep ratio. For filter pruning the rule has no original form: a
    decision's keep ratio is the density of the layer that the environment shows for it, so that the layer keeps
    this share of its filters, and with them of its weights as far as its own filters go.
    """

    name: ClassVar[str] = "erk"

    def keep_ratios(self, problem: PruningProblem) -> list[float]:
        """Returns the densities, the highest of them 1."""
        densities = [self.density(layer) for layer in problem.layers]
        highest = max(densities)
        return [value / highest for value in densities]

    def density(self, layer: LayerSpec) -> float:
        """Returns the unscaled density of a layer: the sum of the weight's dimensions over their product.

        Args:
            layer: The layer; its weight has shape `(n_out, n_in / groups, k_h, k_w)` or `(n_out, n_in)`.
        """
        return sum(layer.weight_shape) / prod(layer.weight_shape)


class ErdosRenyi(ErdosRenyiKernel):
    """Erdos-Renyi densities without the kernel: proportional to `(n_in + n_out) / (n_in * n_out)`.

    Paper: Mocanu et al., 2018, arXiv:1707.04780, Eq. 3, for fully connected layers; a convolution counts by its
    channels alone, as in arXiv:1911.11134. Otherwise as `ErdosRenyiKernel`.
    """

    name: ClassVar[str] = "erdos_renyi"

    def density(self, layer: LayerSpec) -> float:
        """Returns the unscaled density of a layer, of its weight's first two dimensions."""
        outputs, inputs = layer.weight_shape[:2]
        return (inputs + outputs) / (inputs * outputs)
