"""One step of a training: forward, backward, and what the optimiser and the terms do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from amc.runtime.collectives import Collectives
from amc.runtime.device import autocast
from amc.runtime.outputs import main_output
from amc.training.distributed.batch_norm import SynchronisedBatchNorms
from amc.training.distributed.gradients import average_gradients
from amc.training.objective import Objective
from amc.training.terms import Batch


class Stepper:
    """Takes the steps of a training, each on one batch, or on this process's part of one."""

    def __init__(
        self,
        model: nn.Module,
        forward: Callable[[Tensor], Any],
        teacher: nn.Module | None,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        dtype: torch.dtype,
        device: torch.device,
        collectives: Collectives,
        accumulate: int = 1,
    ) -> None:
        """Takes the parts.

        Args:
            model: The network that is trained.
            forward: Computes what the network does: the network itself, or what it was compiled to.
            teacher: The dense network to distil from, or None.
            objective: What is minimised.
            optimizer: Takes the steps.
            dtype: Number format of the computation.
            device: Where to compute.
            collectives: Exchanges tensors with the processes that train with this one.
            accumulate: Parts that a batch is run in, one after the other; fewer where it has fewer images.
        """
        self._model, self._forward, self._teacher, self._objective = model, forward, teacher, objective
        self._optimizer, self._dtype, self._device = optimizer, dtype, device
        self._collectives, self._accumulate = collectives, accumulate

    def take(self, images: Tensor, targets: Tensor, rate: float, done: int) -> Tensor:
        """Takes one step, after `done` others, and returns the loss of the whole batch, a scalar on the device."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        mean_loss = average_gradients(self._learning(), self._backward(images, targets, done), self._collectives)
        self._optimizer.step()
        self._objective.after_step(rate)
        return mean_loss

    def _backward(self, images: Tensor, targets: Tensor, done: int) -> Tensor:
        """Adds the gradients of a batch, part by part, and returns its loss.

        A part weighs as much as its share of the images, so that what is a mean over images stays one, and what does
        not depend on them counts once.
        """
        parts = max(1, min(self._accumulate, len(targets)))
        losses = []
        for some, own in zip(images.tensor_split(parts), targets.tensor_split(parts), strict=True):
            loss = self._loss(some, own, done)
            if parts > 1:
                loss = loss * (len(own) / len(targets))
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        return losses[0] if parts == 1 else torch.stack(losses).sum()

    def _loss(self, images: Tensor, targets: Tensor, done: int) -> Tensor:
        """Runs the networks, and returns the loss."""
        teacher_output = None
        with autocast(self._dtype, self._device):
            if self._teacher is not None:
                with torch.no_grad():
                    teacher_output = main_output(self._teacher(images))
            with self._norms():
                output = self._forward(images)
        return self._objective.loss(Batch(targets, output, teacher_output, done))

    def _learning(self) -> list[Tensor]:
        """Returns all that has gradients: what the optimiser steps, and what the terms do."""
        if self._collectives.size == 1:
            return []
        stepped = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        return [*stepped, *(tensor for term in self._objective.terms for tensor in term.learned())]

    def _norms(self) -> AbstractContextManager[Any]:
        """Returns the context in which batch norms see the whole batch."""
        return nullcontext() if self._collectives.size == 1 else SynchronisedBatchNorms(self._collectives)
