"""The moving average of a network's weights over its training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """An exponential moving average of weights and of batch norms' statistics (Polyak and Juditsky 1992).

    After step t, counted from 1, the average a of weights w is `d * a + (1 - d) * w` with
    `d = min(decay, (1 + t) / (10 + t))`, so that in short trainings the first weights do not count for most. What a
    mask keeps at zero is zero in the average too.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Starts with the weights that a network has.

        Args:
            model: The network.
            decay: What is left of the average in a step, in (0, 1).
        """
        self._model, self._decay, self._steps = model, decay, 0
        self._average = {name: tensor.detach().clone() for name, tensor in self._numbers().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Takes the weights after a step in."""
        self._steps += 1
        kept = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for name, tensor in self._numbers().items():
            self._average[name].lerp_(tensor.detach(), 1 - kept)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Lets the network have the average within the context, and its own weights again after it."""
        own = {name: tensor.detach().clone() for name, tensor in self._numbers().items()}
        self._put(self._average)
        try:
            yield
        finally:
            self._put(own)

    def state(self) -> dict[str, Any]:
        """Returns what a resumed training needs."""
        return {"steps": self._steps, "average": dict(self._average)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes what `state` returned."""
        self._steps = state["steps"]
        for name, tensor in self._average.items():
            tensor.copy_(state["average"][name])

    def _numbers(self) -> dict[str, Tensor]:
        """Returns the network's floating-point weights and statistics by name; counters stay its own."""
        return {name: tensor for name, tensor in self._model.state_dict().items() if tensor.is_floating_point()}

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, tensor in self._numbers().items():
            tensor.copy_(values[name])
