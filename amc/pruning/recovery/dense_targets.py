"""The targets of the reconstruction: the dense network's outputs where layers of the pruned network are refit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from amc.pruning.regression.patches import READER_TYPES, output_rows
from amc.runtime.batch_size import batch_size_for
from amc.runtime.call import call
from amc.runtime.hooks import hooked
from amc.structure import LayerSpec
from amc.structure.operator_watch import OperatorWatch
from amc.structure.residual_sums import OperatorCall, ResidualSum


@dataclass(frozen=True)
class Job:
    """One layer to refit.

    Attributes:
        layer: The layer.
        outputs: Which of the dense layer's outputs the pruned layer has.
        output_size: Height and width (or length) of the output; for linear layers, all axes but the first and last.
        rows: Sampled output positions over all images, rising.
        residual: The sum that the layer's output enters, or None.
    """

    layer: LayerSpec
    outputs: Tensor
    output_size: tuple[int, ...]
    rows: Tensor
    residual: ResidualSum | None

    @property
    def image_rows(self) -> int:
        """Output positions of one image."""
        return prod(self.output_size)

    def rows_of(self, first: int, count: int) -> tuple[slice, Tensor]:
        """Returns which of the rows lie in images `first` to `first + count`, and where within those images."""
        low, high = torch.searchsorted(self.rows, torch.tensor([first, first + count]) * self.image_rows).tolist()
        return slice(low, high), self.rows[low:high] - first * self.image_rows


def dense_targets(
    dense: nn.Module, jobs: Mapping[str, Job], images: Tensor, step: Callable[[], None]
) -> dict[str, Tensor]:
    """Notes what the dense network computes at the sampled rows.

    Returns:
        By layer, `(rows, outputs)`: its output, or the residual sum that it enters. Layers that have not seen every
        image of every batch are missing: experts to which a network routes some of them.
    """
    noter = _Noter(dense, jobs, images.device)
    with hooked(noter.hooks()):
        size = batch_size_for(images)
        for first in range(0, len(images), size):
            part = images[first : first + size]
            with noter.batch(first, len(part)):  # nothing but the forward pass may run here: operators are counted
                call(dense, part)
            step()
    return {name: target for name, target in noter.targets.items() if name not in noter.lost}


class _Noter:
    """Notes outputs of layers, and sums that they enter, as a network computes them.

    Attributes:
        targets: What was noted, by layer.
        lost: Layers for which some images were not noted.
    """

    def __init__(self, dense: nn.Module, jobs: Mapping[str, Job], device: torch.device) -> None:
        """Starts with nothing noted."""
        self._dense, self._jobs = dense, jobs
        self._by_addition = {job.residual.addition: (name, job.residual) for name, job in jobs.items() if job.residual}
        self._outlets: dict[str, Tensor] = {}
        self._noted: set[str] = set()
        self.lost: set[str] = set()
        self.targets = {name: torch.empty(len(job.rows), len(job.outputs), device=device) for name, job in jobs.items()}

    def hooks(self) -> list[RemovableHandle]:
        """Hooks up to the layers without a sum, and to the outlets of those with one."""
        plain = [name for name, job in self._jobs.items() if job.residual is None]
        outlets = [residual.outlet for _, residual in self._by_addition.values()]
        return [
            *(self._dense.get_submodule(name).register_forward_hook(self._takes(name)) for name in plain),
            *(self._dense.get_submodule(name).register_forward_hook(self._holds(name)) for name in outlets),
        ]

    @contextmanager
    def batch(self, first: int, count: int) -> Iterator[None]:
        """Watches the forward pass of the images from `first` on; what does not come up is lost."""
        self._first, self._count, self._watch = first, count, OperatorWatch(self._report)
        self._noted.clear()
        self._outlets.clear()
        with self._watch.watching():
            yield
        self.lost |= self._jobs.keys() - self._noted

    def _takes(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            with self._watch.suspended():
                self._note(name, output)

        return hook

    def _holds(self, outlet: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self._outlets[outlet] = output

        return hook

    def _report(self, step: OperatorCall, args: Sequence[Any], output: Any) -> None:
        if step in self._by_addition:
            name, residual = self._by_addition[step]
            outlet = self._outlets.pop(residual.outlet, None)
            if any(one is outlet for one in args[:2]):
                self._note(name, output)

    def _note(self, name: str, output: Tensor) -> None:
        job, module = self._jobs[name], self._dense.get_submodule(name)
        assert isinstance(module, READER_TYPES)
        if len(output) != self._count:
            return
        self._noted.add(name)
        place, rows = job.rows_of(self._first, self._count)
        self.targets[name][place] = output_rows(output, module, rows)[:, job.outputs.to(output.device)]
