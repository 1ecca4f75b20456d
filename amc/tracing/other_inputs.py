"""Runs a cut network on more data than the example: its code may go another way there, through layers left whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from amc.runtime.call import ExampleInput, first_line
from amc.structure.model_structure import ModelStructure
from amc.structure.slicing import sliced
from amc.tracing.trial import Trial, frozen
from amc.tracing.undisturbed import remembering_nothing, undisturbed


@dataclass
class OtherInputsTrial(Trial):
    """Cuts half of the channels of several groups at once, and runs the network in evaluation and in training mode."""

    _dense_runs: dict[bool, bool] = field(default_factory=dict)

    def _failure(self, groups: Sequence[int]) -> str | None:
        """Returns why a network cut at these groups fails where the dense one runs, or None."""
        kept = self._kept(groups)
        narrow = sliced(self.model, self.structure, kept)
        for training in (False, True):
            self.model.train(training)
            try:
                with self._attributes(kept):
                    self._run(narrow, None)
            except Exception as error:
                if self._dense_runs_too(training):
                    return (
                        f"on other inputs than the example the network takes another way, on which it counts on its "
                        f"width: {first_line(error)}; let it run the same layers for all"
                    )
        return None

    def _dense_runs_too(self, training: bool) -> bool:
        """Returns whether the dense network runs on these inputs in a mode; noted at first use."""
        if training not in self._dense_runs:
            try:
                self._run({}, None)
            except Exception:  # it takes something else, or targets in training
                self._dense_runs[training] = False
            else:
                self._dense_runs[training] = True
        return self._dense_runs[training]

    def _repaired(self, index: int, accepted: Sequence[int]) -> bool:
        return False


def without_failing_on(model: nn.Module, structure: ModelStructure, inputs: ExampleInput) -> ModelStructure:
    """Returns the structure in which groups stay whole with which the cut network fails on more inputs.

    Args:
        model: The dense network; it is left as it is.
        structure: Its structure, traced with one example.
        inputs: A batch of its inputs.
    """
    trial = OtherInputsTrial(model, structure, inputs, None, values=False)
    with undisturbed(model), remembering_nothing(model):
        trial.accept([], structure.prunable)
    return frozen(structure, trial.failures)
