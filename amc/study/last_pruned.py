"""Keeps the network that was pruned last, so that one that is measured and then fine-tuned is refit once."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from amc.pipeline.families import Family
from amc.problem.evaluator import Evaluator
from amc.structure import Allocation
from amc.utils.progress import Progress, silent


class LastPruned:
    """A family that remembers the network of the last allocation until it is asked for again."""

    def __init__(self, family: Family) -> None:
        """Remembers nothing yet.

        Args:
            family: Prunes.
        """
        self._family = family
        self._kept: tuple[Allocation, nn.Module] | None = None

    @property
    def evaluator(self) -> Evaluator:
        """Scores the candidates of the search."""
        return self._family.evaluator

    def prune(self, allocation: Allocation, advance: Progress = silent) -> nn.Module:
        """Returns the pruned network, refit; see `Family`. The caller may change it."""
        kept, self._kept = self._kept, None
        if kept is None or kept[0].key() != allocation.key():
            return self._family.prune(allocation, advance)
        advance(1.0)
        return kept[1]

    def pruned_for_now(self, allocation: Allocation) -> nn.Module:
        """Returns the pruned network, which stays for the next `prune` of its allocation. Change nothing in it."""
        model = self._family.prune(allocation)
        self._kept = allocation, model
        return model

    def kept(self, allocation: Allocation) -> dict[int, Tensor]:
        """Returns the kept channels; see `Family`."""
        return self._family.kept(allocation)

    def keeper(self, model: nn.Module) -> Callable[[nn.Module], None]:
        """Returns what restores a pruned network; see `Family`."""
        return self._family.keeper(model)
