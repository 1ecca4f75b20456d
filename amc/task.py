"""What a run works on: a network, its data, what may be cut, and how candidates are scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import Any

from torch import Tensor, nn

from amc.conversion import check_types
from amc.costs import Budget, PruningProblem, filter_problem, weight_problem
from amc.errors import ConfigurationError, UnknownNameError
from amc.structure import ModelStructure
from amc.training import DataRoles, evaluate
from amc.training.config import FineTuneConfig

FAMILIES = ("filter", "weight")
RECONSTRUCTIONS = ("sequential", "once", "none")


@dataclass(frozen=True)
class PruningConfig:
    """Pruning: what is removed, and how the rest makes up for it.

    Attributes:
        family: filter removes whole channels (a smaller network); weight zeroes single weights (the same shapes).
        criterion: How channels are ranked: elimination, l1, l2 or random; single weights always go by magnitude.
        reconstruction: Least-squares refit of the layers that read a cut one: sequential, once or none (filter).
        recalibration_images: Calibration images on which the batch norms of a candidate are re-estimated before it is
            scored; 0 scores it as it was cut (filter).
        min_keep_ratio: Smallest share that every layer keeps, 0 to 1; unset: 0.1 of the channels, 0.01 of the weights.
        max_keep_ratio: Largest share that every layer keeps, 0 to 1.
        round_to: Kept channels are a multiple of this; 8 or 16 suits most hardware.
        exclude: Layers whose outputs stay whole: name patterns, comma-separated, such as 'conv1,layer1.*'. What they
            read may be pruned.
        bounds: Smallest and largest pruning ratio by name pattern, such as 'layer1.*=0:0.5,layer2.*=0.2:0.9'; of
            several patterns that match a layer, the first counts.
        residual: Whether the channels of residual streams are pruned too (filter).
    """

    family: str = "filter"
    criterion: str = "elimination"
    reconstruction: str = "sequential"
    recalibration_images: int = 100
    min_keep_ratio: float | None = None
    max_keep_ratio: float = 1.0
    round_to: int = 1
    exclude: str = ""
    bounds: str = ""
    residual: bool = False

    def check(self) -> None:
        """Refuses unknown names and numbers that mean nothing.

        Raises:
            UnknownNameError: If the family, criterion or reconstruction does not exist.
            ConfigurationError: If an option has another type, or `recalibration_images` is negative or 1.
        """
        from amc.pruning.importance import CRITERIA

        check_types(self, "pruning.")
        for kind, name, known in (
            ("pruning family", self.family, FAMILIES),
            ("criterion", self.criterion, CRITERIA.names()),
            ("reconstruction", self.reconstruction, RECONSTRUCTIONS),
        ):
            if name not in known:
                raise UnknownNameError(kind, name, known)
        if self.recalibration_images < 0 or self.recalibration_images == 1:
            raise ConfigurationError(
                f"pruning.recalibration_images must be at least 2, or 0 for none, not {self.recalibration_images}"
            )


@dataclass(frozen=True)
class Task:
    """Everything about a run that does not change while it works.

    Attributes:
        model: The dense network.
        data: Its data in four roles; None where `measure` and `tune` replace it.
        structure: The traced network.
        problem: The decisions, what they cost, and the budget.
        example_input: One input of the network, for counting FLOPs.
        pruning: How it is pruned.
        finetune: How the pruned networks are fine-tuned.
        measure: The user's own figure of merit of a network (higher is better), in place of the accuracy.
        tune: The user's own fine-tuning, in place.
        seed: Seed of everything random.
        device: Where to compute.
        dtype: Number format in which candidates are scored: auto, float32 or bfloat16.
    """

    model: nn.Module
    data: DataRoles | None
    structure: ModelStructure
    problem: PruningProblem
    example_input: Any
    pruning: PruningConfig = field(default_factory=PruningConfig)
    finetune: FineTuneConfig = field(default_factory=FineTuneConfig)
    measure: Callable[[nn.Module], float] | None = None
    tune: Callable[[nn.Module], object] | None = None
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"

    def test(self, model: nn.Module) -> float:
        """Returns the figure to report of a network: top-1 on the test split in percent, or the user's own."""
        if self.measure is not None:
            return self.measured(model)
        assert self.data is not None
        return evaluate(model, self.data.test, device=self.device).accuracy

    def measured(self, model: nn.Module) -> float:
        """Returns the user's own figure of merit of a network.

        Raises:
            ConfigurationError: If the user's function returns no finite number.
        """
        assert self.measure is not None
        value = self.measure(model)
        try:
            figure = float(value)
        except (TypeError, ValueError):
            figure = nan
        if not isfinite(figure):
            raise ConfigurationError(f"evaluate(model) must return a finite number, higher is better, not {value!r}")
        return figure


def build_problem(structure: ModelStructure, budget: Budget | None, pruning: PruningConfig) -> PruningProblem:
    """Builds the pruning problem of a network under the user's rules.

    Raises:
        BudgetError: If no allocation meets the budget.
        ModelError: If there is nothing to prune.
        UnknownNameError: If a pattern of `exclude` or `bounds` matches no layer.
        ConfigurationError: If the bounds are malformed or leave no width.
    """
    least = {} if pruning.min_keep_ratio is None else {"min_keep_ratio": pruning.min_keep_ratio}
    rules: dict[str, Any] = {
        **least,
        "max_keep_ratio": pruning.max_keep_ratio,
        "round_to": pruning.round_to,
        "exclude": split_list(pruning.exclude),
        "bounds": ratio_bounds(pruning.bounds),
    }
    if pruning.family == "weight":
        return weight_problem(structure, budget, **rules)
    return filter_problem(structure, budget, residual=pruning.residual, **rules)


def split_list(text: str) -> tuple[str, ...]:
    """Splits a comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def ratio_bounds(text: str) -> dict[str, tuple[float, float]]:
    """Reads the smallest and the largest pruning ratio by name pattern.

    Args:
        text: `"PATTERN=MIN:MAX"`, several with commas between them.

    Raises:
        ConfigurationError: If it is written differently, or not 0 <= MIN <= MAX <= 1.
    """
    found = {}
    for part in split_list(text):
        pattern, _, ratios = part.rpartition("=")
        try:
            smallest, largest = (float(ratio) for ratio in ratios.split(":"))
        except ValueError:
            smallest, largest = 1.0, 0.0
        if not pattern or not 0 <= smallest <= largest <= 1:
            raise ConfigurationError(
                f"pruning.bounds must be PATTERN=MIN:MAX with 0 <= MIN <= MAX <= 1, not {part!r}; "
                "for example layer1.*=0:0.5"
            )
        found[pattern] = (smallest, largest)
    return found


def example_of(data: DataRoles | None, example_input: Any | None) -> Any:
    """Returns the example input: the user's, or one image of the data, `(1, C, H, W)`.

    Raises:
        ConfigurationError: If there is neither.
    """
    if example_input is not None:
        return example_input
    if data is None:
        raise ConfigurationError("without data an example input must be given: compress(..., example_input=...)")
    image: Tensor = data.calibration.take([0]).inputs()
    return image
