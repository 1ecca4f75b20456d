"""A term of a training's objective, and what it can see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from amc.runtime.collectives import ALONE, Collectives


@dataclass(frozen=True)
class Training:
    """The training that a term is part of.

    Attributes:
        model: The network that is trained.
        optimizer: Its optimiser; a term may add groups of parameters.
        steps: Steps per epoch.
        epochs: Total number of epochs.
        images: Training images.
        example: A few inputs.
        collectives: What the processes exchange that share every batch, each of which has a copy of the term.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    steps: int
    epochs: int
    images: int
    example: Tensor
    collectives: Collectives = ALONE

    def spare_decay(self, parameters: Iterable[nn.Parameter]) -> None:
        """Exempts parameters from weight decay; call it before the first step."""
        spared = {id(parameter): parameter for parameter in parameters}
        for group in self.optimizer.param_groups:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in spared]
        self.optimizer.add_param_group({"params": list(spared.values()), "weight_decay": 0.0})


@dataclass(frozen=True)
class Batch:
    """The results of a step.

    Attributes:
        targets: As the data has them, `(N, ...)`.
        output: What the network returned in training mode.
        teacher: The dense network's main output; None if no term needs it.
        step: The step, from 0, counted from the start of the training.
    """

    targets: Tensor
    output: Any
    teacher: Tensor | None = None
    step: int = 0


class Term:
    """A term of the objective. This base class does nothing, so that others define only what they need.

    Terms are added in the order in which they are given. A training calls `attach` once, `loss` and `after_step` in
    every step, and `detach` at the end, even if it fails.

    Attributes:
        needs_teacher: Whether `loss` looks at the dense network's output.
    """

    needs_teacher: ClassVar[bool] = False

    def attach(self, training: Training) -> None:
        """Prepares the term: finds layers, registers hooks, adds parameters to the optimiser."""

    def loss(self, batch: Batch) -> Tensor | None:
        """Returns what is added to the loss of a batch, a scalar in float32; None for nothing."""
        return None

    def learned(self) -> Iterable[Tensor]:
        """Returns tensors of the term's own that have gradients and are in no group of the optimiser.

        Where several processes share a batch, their gradients are averaged before `after_step`.
        """
        return ()

    def after_step(self, rate: float) -> None:
        """Acts on the network after an optimiser step at some learning rate."""

    def detach(self) -> None:
        """Undoes what `attach` did, and leaves in the network what the term has learnt."""

    def state(self) -> dict[str, Any]:
        """Returns what a resumed training needs, besides the network and its optimiser: tensors and plain values."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned."""
