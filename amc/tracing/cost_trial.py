"""Compares what a cut network costs with what is predicted: its code may run a loop as often as it has channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from amc.runtime.call import ExampleInput
from amc.structure.model_structure import ModelStructure
from amc.structure.slicing import sliced, widths_of
from amc.structure.substitution import substituted
from amc.tracing.trial import OTHER_WIDTHS, Trial, frozen

COSTS_DIFFER = (
    "what the network runs depends on how many channels there are, so that its costs are not those predicted; let "
    "loops and sizes in its code be the same for every width"
)
"""Why channels stay whole whose number decides on what is run."""


@dataclass
class CostTrial(Trial):
    """Cuts several groups at once to one channel each, where loops differ most, and counts the FLOPs.

    Attributes:
        count: Counts those of the network as it is.
    """

    count: Callable[[], int] = field(kw_only=True)

    def _failure(self, groups: Sequence[int]) -> str | None:
        """Returns why a network cut at these groups costs something else than predicted, or None.

        Where it does not run with one channel, half of the channels are kept.
        """
        for self.more in (OTHER_WIDTHS[1], 0):
            kept = self._kept(groups)
            narrow = sliced(self.model, self.structure, kept)
            with self._attributes(kept), substituted(self.model, narrow), torch.random.fork_rng(devices=[]):
                try:
                    counted = self.count()
                except Exception:  # its code counts on more channels
                    continue
            widths = widths_of(self.structure, kept)
            return None if counted == sum(term.cost(widths) for term in self.structure.flops_terms) else COSTS_DIFFER
        return None

    def _repaired(self, index: int, accepted: Sequence[int]) -> bool:
        return False


def without_wrong_costs(
    model: nn.Module, structure: ModelStructure, example_input: ExampleInput, count: Callable[[], int]
) -> ModelStructure:
    """Returns the structure in which groups stay whole whose cut network would cost something else than predicted.

    Args:
        model: The dense network, in evaluation mode; it is left as it is.
        structure: Its structure; every group that it offers can be cut.
        example_input: One example input.
        count: Counts the FLOPs of one run of the network as it is.
    """
    trial = CostTrial(model, structure, example_input, None, count=count)
    trial.accept([], structure.prunable)
    return frozen(structure, trial.failures)
