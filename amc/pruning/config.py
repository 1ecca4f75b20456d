"""The options of pruning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from amc.errors import ConfigurationError, UnknownNameError
from amc.pruning.criteria.base import CRITERIA
from amc.pruning.recovery.registry import RECOVERIES
from amc.pruning.weight_patterns import WEIGHT_PATTERNS
from amc.runtime.blocks import check_round_to
from amc.structure import KINDS
from amc.utils.conversion import conform
from amc.utils.options import Chosen, create, spell


@dataclass(frozen=True)
class PruningConfig:
    """Pruning: what is removed, and how the rest makes up for it.

    Attributes:
        family: filter removes whole channels (a smaller network); weight zeroes single weights (the same shapes).
        criterion: What ranks channels or weights; auto takes elimination (l2 without data) for channels and obs
            (magnitude without data) for weights.
        recovery: What makes up for the cut before fine-tuning.
        recalibration_images: Images on which the batch norms of a candidate are re-estimated before it is scored: the
            first of the search split, without their classes, or calibration images where the split has fewer. Where
            weights are pruned and refit, calibration images on which its layers are refit in sequence. 0 scores it as
            it is.
        min_keep_ratio: Smallest share that every layer keeps, 0 to 1; unset: 0.1 of the channels, 0.01 of the weights.
        max_keep_ratio: Largest share that every layer keeps, 0 to 1.
        round_to: Kept channels are a multiple of this (1: any number); auto takes what the device computes at once, 8
            or 16, 4 for narrow layers and any number for small ones; auto:16 is auto for blocks of 16.
        exclude: Layers whose outputs stay whole, as name patterns such as conv1 and layer1.*. What they read may be
            pruned.
        bounds: Smallest and largest pruning ratio by name pattern; of several that match a layer, the first counts.
        residual: Whether the channels of residual streams are pruned too (filter).
        blocks: Whether whole residual blocks may be dropped too (filter), each by a decision of its own.
        pattern: Which weights stay or go together (weight). Layers that it does not fit stay dense.

    Raises:
        UnknownNameError: If the family, criterion or recovery does not exist.
        ConfigurationError: If an option has another type or is out of its range.
    """

    family: str = "filter"
    criterion: Chosen = "auto"
    recovery: Chosen = "sequential"
    recalibration_images: int = 100
    min_keep_ratio: float | None = None
    max_keep_ratio: float = 1.0
    round_to: int | str = "auto"
    exclude: tuple[str, ...] = ()
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    residual: bool = False
    blocks: bool = False
    pattern: str = "unstructured"

    def __post_init__(self) -> None:
        """Checks the options."""
        if self.family in CRITERIA:
            object.__setattr__(self, "criterion", spell(CRITERIA[self.family], self.criterion))
        object.__setattr__(self, "recovery", spell(RECOVERIES, self.recovery))
        conform(self, "pruning.")
        check_round_to(self.round_to)
        for kind, name, known in (
            ("pruning family", self.family, KINDS),
            ("pattern", self.pattern, WEIGHT_PATTERNS.names()),
        ):
            if name not in known:
                raise UnknownNameError(kind, name, known)
        if self.family != "weight" and self.pattern != "unstructured":
            raise ConfigurationError(
                f"pruning.pattern is of the weight family: {self.pattern!r} needs pruning.family weight"
            )
        if self.family != "filter" and self.blocks:
            raise ConfigurationError("pruning.blocks drops residual blocks, and needs pruning.family filter")
        if self.family != "filter" and self.residual:
            raise ConfigurationError(
                "pruning.residual prunes the channels of residual streams, and needs pruning.family filter; single "
                "weights are pruned in every layer without it"
            )
        if self.criterion != "auto":
            create(CRITERIA[self.family], self.criterion)
        create(RECOVERIES, self.recovery)
        if self.recalibration_images < 0 or self.recalibration_images == 1:
            raise ConfigurationError(
                f"pruning.recalibration_images must be at least 2, or 0 for none, not {self.recalibration_images}"
            )
        self._check_keep_ratios()
        for pattern, (smallest, largest) in self.bounds.items():
            if not 0 <= smallest <= largest <= 1:
                raise ConfigurationError(
                    f"pruning.bounds must be ratios with 0 <= smallest <= largest <= 1, not {smallest:g} and "
                    f"{largest:g} for {pattern!r}; for example 0 and 0.5"
                )

    def _check_keep_ratios(self) -> None:
        """Checks the shares that every layer keeps, before a network is traced."""
        smallest, largest = self.min_keep_ratio or 0.0, self.max_keep_ratio
        if not (0 <= smallest <= largest <= 1 and largest > 0):
            raise ConfigurationError(
                "pruning.min_keep_ratio and max_keep_ratio must satisfy 0 <= min <= max <= 1 and max > 0, not "
                f"{smallest:g} and {largest:g}; for example 0.1 and 1"
            )
