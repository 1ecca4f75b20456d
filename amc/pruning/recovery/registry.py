"""Recoveries by name: they make up for the cut in the delivered network, without training.

One of your own is a callable with `refits_candidates`, registered by a name:

    class Rescale:
        refits_candidates = True

        def __call__(self, pruned):
            pruned.model.head.weight.mul_(1.1)

    RECOVERIES.register("rescale", Rescale, "a larger head")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from torch import Tensor, nn

from amc.errors import ConfigurationError
from amc.pruning.recovery.layer_refit import LayerSolver
from amc.pruning.recovery.reconstruction import ReconstructionOptions
from amc.pruning.recovery.remembered_plan import RememberedPlan
from amc.runtime.freed_memory import give_back_freed_memory
from amc.structure import ModelStructure
from amc.utils.progress import Progress, silent
from amc.utils.registry import Registry


@dataclass(frozen=True)
class PrunedNetwork:
    """The input of a recovery.

    Attributes:
        model: The pruned network in evaluation mode, with the weights of the search's tables; changed in place.
        dense: The dense network; not to be changed.
        structure: Its structure.
        images: Normalised calibration images, `(N, C, H, W)`, on the networks' device.
        kept: Kept channels of every group that was cut, by its index; empty where single weights go.
        masks: Of layers that have lost single weights, by name, true where a weight stays; empty where channels go.
        solver: Refits the weights that stay in such a layer, and may choose others; None where channels go.
        seed: Seed of what is drawn.
    """

    model: nn.Module
    dense: nn.Module
    structure: ModelStructure
    images: Tensor
    kept: Mapping[int, Tensor] = field(default_factory=dict)
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    solver: LayerSolver | None = None
    seed: int = 0


class Recovery(Protocol):
    """Makes up for what was cut."""

    @property
    def refits_candidates(self) -> bool:
        """Whether the candidates of the search are refit from tables too, so that they are scored as they would be."""

    def __call__(self, pruned: PrunedNetwork, advance: Progress = silent) -> None:
        """Changes the delivered network in place; zeros have to stay where single weights have gone.

        Args:
            pruned: The network, and what belongs to it.
            advance: Takes the share that is done, 0 to 1, as it grows.
        """


@dataclass(frozen=True)
class SequentialRefit:
    """Refits one layer after another toward the dense network's activations, on those of the pruned network.

    He et al. 2017 (arXiv:1707.06168, section 3.3), for every layer that reads a cut one or has lost weights, with a
    ridge toward the weights of the tables.

    Attributes:
        rows: Output positions sampled for each layer.
        ridge: Relative to the mean of the Gram matrix's diagonal; features per row are added.

    Raises:
        ConfigurationError: If there would be no rows, or the ridge is negative.
    """

    rows: int = ReconstructionOptions.rows
    ridge: float = ReconstructionOptions.ridge
    refits_candidates: ClassVar[bool] = True
    _plans: RememberedPlan = field(default_factory=RememberedPlan, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Checks the options."""
        if self.rows < 1 or self.ridge < 0:
            raise ConfigurationError(
                f"sequential: rows must be at least 1 and ridge at least 0, not {self.rows} and {self.ridge:g}"
            )

    def __call__(self, pruned: PrunedNetwork, advance: Progress = silent) -> None:
        """Refits; see `Recovery`."""
        planned = self._plans.plan(
            pruned.dense,
            pruned.model,
            pruned.structure,
            pruned.kept,
            pruned.images,
            ReconstructionOptions(rows=self.rows, ridge=self.ridge, seed=pruned.seed),
            advance,
            sparse=pruned.masks,
        )
        planned.refit(pruned.model, pruned.solver)
        give_back_freed_memory()


@dataclass(frozen=True)
class TablesAlone:
    """Leaves the delivered network with the weights of the search's tables, refit once on the dense activations."""

    refits_candidates: ClassVar[bool] = True

    def __call__(self, pruned: PrunedNetwork, advance: Progress = silent) -> None:
        """Does nothing more."""


@dataclass(frozen=True)
class NoRecovery:
    """Leaves candidates and the delivered network with the weights that they had."""

    refits_candidates: ClassVar[bool] = False

    def __call__(self, pruned: PrunedNetwork, advance: Progress = silent) -> None:
        """Does nothing."""


RECOVERIES: Registry[Callable[..., Recovery]] = Registry("recovery", "amc.recoveries", method="__call__")
"""Every recovery's factory by name; see `amc.utils.options`."""

RECOVERIES.register("sequential", SequentialRefit, "least-squares refit of candidates, and of the delivery in sequence")
RECOVERIES.register("once", TablesAlone, "least-squares refit of candidates and delivery from the same tables")
RECOVERIES.register(
    "merging", "amc.pruning.recovery.merging:NeuronMerging", "similar channels stand in for removed ones"
)
RECOVERIES.register("none", NoRecovery, "weights as they were")
