"""Training of shared weights: each shared value is trained by the sum of its weights' gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from amc.training.terms import Term, Training


class SharedWeights(Term):
    """Trains weights so that equal ones stay equal, and zeros zero (Han et al. 2016, arXiv:1510.00149).

    Section 3.3, Eq. 3: the gradient of a centroid is the sum of the gradients of its weights. After every step of the
    optimiser each centroid moves by the sum of its weights' steps. For SGD, with or without momentum, this is the step
    that the sum of the gradients would have taken.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """Takes the names of the parameters whose weights are shared."""
        self._names = tuple(names)
        self._weights: dict[str, nn.Parameter] = {}
        self._members: dict[str, Tensor] = {}
        self._centroids: dict[str, Tensor] = {}

    @torch.no_grad()
    def attach(self, training: Training) -> None:
        """Finds which weights are equal."""
        parameters = dict(training.model.named_parameters())
        for name in self._names:
            values, members = torch.unique(parameters[name].detach().flatten(), return_inverse=True)
            self._weights[name] = parameters[name]
            self._centroids[name], self._members[name] = values.float(), members

    @torch.no_grad()
    def after_step(self, rate: float) -> None:
        """Moves the centroids, and every weight to its centroid."""
        for name, weight in self._weights.items():
            centroids, members = self._centroids[name], self._members[name]
            steps = weight.flatten().float() - centroids[members]
            moved = centroids.index_add(0, members, steps)
            self._centroids[name] = moved = torch.where(centroids == 0, centroids, moved)
            weight.copy_(moved[members].reshape(weight.shape))

    def detach(self) -> None:
        """Releases the weights."""
        self._weights, self._members, self._centroids = {}, {}, {}

    def state(self) -> dict[str, Any]:
        """Returns the centroids, and which weight belongs to which."""
        return {"centroids": dict(self._centroids), "members": dict(self._members)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned."""
        for name, weight in self._weights.items():
            self._centroids[name] = state["centroids"][name].to(weight.device).clone()
            self._members[name] = state["members"][name].to(weight.device).clone()
