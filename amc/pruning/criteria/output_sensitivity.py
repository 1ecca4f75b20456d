"""How much the network's output changes with the outputs of each layer: the weight of an error there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from amc.runtime.call import call, evaluation_mode
from amc.runtime.hooks import hooked
from amc.runtime.many_inputs import parts_of
from amc.runtime.outputs import main_output

_IMAGES, _VALUES = 500, 1 << 23
"""Inputs that are looked at, and their values in all: of large images few do, as each shows many places."""
_AT_ONCE, _VALUES_AT_ONCE = 25, 1 << 19
"""Inputs that run together, and their values: their activations are held for the backward pass."""
_DRAWS = 2


@dataclass(frozen=True)
class OutputSensitivity:
    """The effect of errors in one layer's outputs on the network's output.

    Attributes:
        importance: The expected squared change of the network's output by an error of mean square 1 in each output of
            the layer, `(O,)`, float64; errors at different places are taken to be independent.
        energy: The same where the layer's outputs are missing altogether.
    """

    importance: Tensor
    energy: float


def gather_sensitivities(
    model: nn.Module, layers: Iterable[str], batches: Sequence[Any], *, centred: bool, seed: int = 0
) -> dict[str, OutputSensitivity]:
    """Measures the sensitivities of a network's output, on the first 500 images (of 224 x 224 pixels on the first 56).

    The squared change is the Gauss-Newton form of the squared error of the output, estimated by gradients of two random
    projections for each image. No labels are needed, and images that the network is sure of count as much as others,
    unlike with gradients of the loss.

    Args:
        model: The dense network, on the device of the batches; it keeps its modes, flags and gradients.
        layers: Names of the layers. Those that return no tensor, such as whole attention modules, are passed over.
        batches: Calibration images, each `(N, C, H, W)`.
        centred: Whether a change of all outputs of an image by the same amount counts as none, as with logits.
        seed: Seed of the projections.

    Returns:
        By layer. Empty if the network cannot be differentiated.
    """
    watch = _Watch(model, layers)
    generator = torch.Generator().manual_seed(seed)
    seen, (images, at_once) = 0, _amounts(batches)
    with evaluation_mode(model), torch.inference_mode(False), torch.enable_grad(), watch.hooked():
        for part in (part for batch in batches for part in parts_of(batch, at_once)):
            if seen >= images:
                break
            seen += len(part)
            try:
                watch.add(main_output(call(model, part)), centred, generator)
            except RuntimeError:  # operators without a gradient
                return {}
    return watch.result(seen)


def _amounts(batches: Sequence[Any]) -> tuple[int, int]:
    """Returns how many inputs to look at, and how many together."""
    values = max((batch[0].numel() for batch in batches[:1] if isinstance(batch, Tensor) and len(batch)), default=1)
    return min(_IMAGES, -(-_VALUES // values)), max(1, min(_AT_ONCE, _VALUES_AT_ONCE // values))


class _Watch:
    """Sums squared gradients and outputs of layers."""

    def __init__(self, model: nn.Module, layers: Iterable[str]) -> None:
        """Starts with nothing seen."""
        self._modules = {name: module for name, module in model.named_modules() if name in set(layers)}
        self._held: list[tuple[str, Tensor]] = []
        self._gradients: dict[str, Tensor] = {}
        self._outputs: dict[str, Tensor] = {}
        self._rows: dict[str, int] = defaultdict(int)

    @contextmanager
    def hooked(self) -> Any:
        """Holds the outputs of the layers as they run."""
        with hooked([module.register_forward_hook(self._holder(name)) for name, module in self._modules.items()]):
            yield

    def _holder(self, name: str) -> Callable[[nn.Module, Any, Any], Tensor | None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> Tensor | None:
            if not isinstance(output, Tensor) or not output.is_floating_point():
                return None
            held = output if output.requires_grad else output.detach().requires_grad_()
            self._held.append((name, held))
            return held.clone()  # which operators in place may change

        return hook

    def add(self, output: Tensor, centred: bool, generator: torch.Generator) -> None:
        """Adds the gradients of random projections of one batch's output."""
        held, self._held = self._held, []
        for name, tensor in held:
            rows = self._as_rows(name, tensor.detach())
            self._rows[name] += len(rows)
            self._outputs[name] = self._outputs.get(name, 0.0) + rows.double().square().sum(0)
        for draw in range(_DRAWS):
            direction = torch.randn(output.shape, generator=generator).to(output)
            if centred and output.dim() > 1:
                direction = direction - direction.mean(1, keepdim=True)
            last = draw + 1 == _DRAWS
            tensors = [tensor for _, tensor in held]
            found = torch.autograd.grad((output * direction).sum(), tensors, retain_graph=not last, allow_unused=True)
            for (name, tensor), gradient in zip(held, found, strict=True):
                squares = tensor.new_zeros(()) if gradient is None else self._as_rows(name, gradient).double().square()
                self._gradients[name] = self._gradients.get(name, 0.0) + squares.sum(0) / _DRAWS

    def _as_rows(self, name: str, output: Tensor) -> Tensor:
        """Lays an output out with one position per row, `(rows, O)`."""
        last = isinstance(self._modules[name], nn.Linear | nn.Embedding) or output.dim() < 3
        return (output if last else output.movedim(1, -1)).reshape(-1, output.shape[-1 if last else 1])

    def result(self, images: int) -> dict[str, OutputSensitivity]:
        """Returns what was found on as many images."""
        found = {}
        for name, gradients in self._gradients.items():
            importance = gradients / max(images, 1)
            if gradients.dim() and bool(gradients.isfinite().all()) and bool(gradients.any()):
                energy = float(importance @ self._outputs[name]) / max(self._rows[name], 1)
                found[name] = OutputSensitivity(importance, energy)
        return found
