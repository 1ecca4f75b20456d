"""Gradients of random projections of a network's output, at the outputs of its layers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from amc.runtime.call import call
from amc.runtime.hooks import hooked
from amc.runtime.outputs import main_output

_VALUES, _VALUES_AT_ONCE = 1 << 23, 1 << 19
"""Values of the inputs that are looked at, and of those that run together: their activations are held for the backward
pass, and of large images few do, as each shows many places."""


class NoGradientsError(Exception):
    """A network that cannot be differentiated; never seen outside `amc.pruning`."""


class ProjectedGradients:
    """Says how much each output of each layer sways the network's output.

    The expected square of such a gradient is the squared change of the network's output by a change of that one number:
    the diagonal of the Gauss-Newton form of its squared error. No labels are needed, and images that the network is
    sure of count as much as others, unlike with gradients of the loss.
    """

    def __init__(self, model: nn.Module, layers: Iterable[str], *, centred: bool, seed: int, draws: int = 2) -> None:
        """Names what is watched.

        Args:
            model: The network. A copy runs: tensors that a network keeps for later would hold on to the graph of their
                gradients, and then it could not be copied any more.
            layers: Names of the layers. Those that return no tensor, such as whole attention modules, are passed over.
            centred: Whether a change of all outputs of an image by the same amount counts as none, as with logits.
            seed: Seed of the projections.
            draws: Projections of each output.
        """
        wanted = set(layers)
        self._model, self._centred, self._draws = copy.deepcopy(model).eval().requires_grad_(False), centred, draws
        self._modules = {name: module for name, module in self._model.named_modules() if name in wanted}
        self._generator = torch.Generator().manual_seed(seed)
        self._held: list[tuple[str, Tensor]] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Holds the outputs of the layers in forward passes that can be differentiated."""
        hooks = [module.register_forward_hook(self._holder(name)) for name, module in self._modules.items()]
        with torch.inference_mode(False), torch.enable_grad(), hooked(hooks):
            yield

    def squares(self, inputs: Any) -> list[tuple[str, Tensor, Tensor]]:
        """Returns for every layer its name, its output, and the mean square of the gradients at it, both `(rows, O)`.

        Args:
            inputs: What to run the network on, while it is watched.

        Raises:
            NoGradientsError: If an operator has no gradient, or none of the outputs is the main one.
        """
        self._held = []
        try:
            sums = self._sums(main_output(call(self._model, inputs)))
        except Exception as error:  # whatever the network's own operators raise where gradients are asked for
            raise NoGradientsError from error
        held, self._held = self._held, []
        return [
            (name, self._as_rows(name, tensor.detach()), self._as_rows(name, square.expand(tensor.shape)))
            for (name, tensor), square in zip(held, sums, strict=True)
        ]

    def _sums(self, output: Tensor) -> list[Tensor]:
        """Returns the mean squares of the gradients at what is held."""
        tensors = [tensor for _, tensor in self._held]
        sums = [torch.zeros((), dtype=torch.float64, device=tensor.device) for tensor in tensors]
        for draw in range(self._draws):
            direction = torch.randn(output.shape, generator=self._generator).to(output)
            if self._centred and output.dim() > 1:
                direction = direction - direction.mean(1, keepdim=True)
            more = draw + 1 < self._draws
            found = torch.autograd.grad((output * direction).sum(), tensors, retain_graph=more, allow_unused=True)
            for place, gradient in enumerate(found):
                if gradient is not None:
                    sums[place] = sums[place] + gradient.double().square() / self._draws
        return sums

    def _holder(self, name: str) -> Callable[[nn.Module, Any, Any], Tensor | None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> Tensor | None:
            if not isinstance(output, Tensor) or not output.is_floating_point():
                return None
            held = output if output.requires_grad else output.detach().requires_grad_()
            self._held.append((name, held))
            return held.clone()  # which operators in place may change

        return hook

    def _as_rows(self, name: str, output: Tensor) -> Tensor:
        """Lays an output out with one position per row, `(rows, O)`."""
        last = isinstance(self._modules[name], nn.Linear | nn.Embedding) or output.dim() < 3
        return (output if last else output.movedim(1, -1)).reshape(-1, output.shape[-1 if last else 1])


def affordable_inputs(batch: Any, most: int, at_once: int) -> tuple[int, int]:
    """Returns how many inputs to look at, and how many together.

    Args:
        batch: Some of the inputs. The values of a tensor count too; those of other inputs say little about how large
            their activations are.
        most: The most to look at.
        at_once: The most that run together.
    """
    values = max(1, batch[0].numel()) if isinstance(batch, Tensor) and len(batch) else 1
    return min(most, -(-_VALUES // values)), max(1, min(at_once, _VALUES_AT_ONCE // values))
