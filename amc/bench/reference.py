"""A straightforward implementation of the reference procedure, with which the search's speed is compared.

He et al., ECCV 2018, and the environment that the authors published: activations of the calibration images are sampled
once, at a few positions an image, before and after every layer. In every episode each pruned layer keeps the input
channels with the largest weights; its weights are solved for again by least squares and stand in a network of full
size, zero where channels are gone; that network is evaluated in float32 on the whole search split. The authors' code
solves for 1x1 convolutions alone; here the problem of a larger kernel is that of its unfolded patches.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from amc.errors import ConfigurationError
from amc.pipeline.task import Task
from amc.problem.score import Score
from amc.pruning.regression.patches import READER_TYPES, input_rows, output_rows, sample_rows
from amc.pruning.regression.regressions import ReadCut, read_cuts
from amc.runtime import resolve_device
from amc.runtime.hooks import hooked
from amc.structure import Allocation
from amc.training import evaluate

ROWS = 30_000
"""Positions sampled in every layer: the authors' code takes 10 in each of 3,000 images."""
_BATCH = 250

Matrix = NDArray[np.float32]


@dataclass
class _Samples:
    """Sampled rows of a layer: its unfolded inputs `(rows, d)` and its outputs without bias `(rows, O)`."""

    inputs: Matrix
    outputs: Matrix


class ReferenceProcedure:
    """Scores allocations as the reference does."""

    def __init__(self, task: Task, rows: int = ROWS) -> None:
        """Samples the activations of the dense network.

        Args:
            task: The network and its data.
            rows: Positions sampled in every layer, over all calibration images; layers with fewer use all they have.

        Raises:
            ConfigurationError: If the task is not filter pruning, or has no data.
        """
        if task.problem.kind != "filter" or task.data is None:
            raise ConfigurationError("the reference procedure prunes filters on data; choose --pruning.family filter")
        self._device = resolve_device(task.device)
        self._search = task.data.search
        self._model = copy.deepcopy(task.model).to(self._device).eval()
        self._state = copy.deepcopy(self._model.state_dict())
        structure = task.structure
        self._groups = {structure.groups[index].name: structure.groups[index] for index in structure.prunable}
        self._cuts = {name: read_cuts(self._model, structure, group) for name, group in self._groups.items()}
        layers = dict.fromkeys(cut.layer for cuts in self._cuts.values() for cut in cuts if cut.conv_groups == 1)
        images = task.data.calibration.inputs().to(self._device)
        self._samples = _sample(self._model, list(layers), images, rows, task.seed)

    @property
    def memory(self) -> int:
        """Size of the stored activations, in bytes."""
        return sum(found.inputs.nbytes + found.outputs.nbytes for found in self._samples.values())

    def __call__(self, allocation: Allocation) -> Score:
        """Masks, solves and evaluates."""
        self._model.load_state_dict(self._state)
        masks: dict[str, Tensor] = {}
        for name, width in allocation.widths.items():
            cuts = self._cuts[name]
            if width == self._groups[name].channels or not cuts:
                continue
            kept = self._strongest(cuts[0], width)
            for cut in cuts:
                mask = masks.setdefault(cut.layer, torch.ones(cut.shape[1], dtype=torch.bool))
                mask[cut.positions] = False
                mask[cut.positions[kept]] = True
        for layer, mask in masks.items():
            self._solve(layer, mask)
        return evaluate(self._model, self._search, batch_size=_BATCH, device=self._device)

    def _strongest(self, cut: ReadCut, width: int) -> Tensor:
        """Returns the channels whose weights in a reader have the largest sum of magnitudes."""
        weight = self._state[cut.tensor].abs().transpose(0, 1).flatten(1).sum(1).cpu()
        order: Tensor = weight[cut.positions].sum(1).argsort(descending=True)
        return order[:width]

    def _solve(self, layer: str, mask: Tensor) -> None:
        """Writes the weights that a reader gets when its input channels outside a mask are gone."""
        module = self._model.get_submodule(layer)
        assert isinstance(module, READER_TYPES)
        weight = torch.zeros_like(module.weight)
        if layer in self._samples:
            found = self._samples[layer]
            kernel = module.weight[0, 0].numel()
            columns = np.repeat(mask.numpy(), kernel)
            solution = np.linalg.lstsq(found.inputs[:, columns], found.outputs, rcond=None)[0]
            parts = torch.from_numpy(solution.T.copy()).reshape(len(weight), -1, *weight.shape[2:])
            weight[:, mask.to(weight.device)] = parts.to(weight)
        else:  # a grouped convolution: the reference only masks it
            weight[:, mask.to(weight.device)] = module.weight.detach()[:, mask.to(weight.device)]
        module.weight.data = weight


@torch.inference_mode()
def _sample(model: nn.Module, layers: Sequence[str], images: Tensor, limit: int, seed: int) -> dict[str, _Samples]:
    """Samples the inputs and outputs of some layers."""
    generator = torch.Generator().manual_seed(seed)
    rows: dict[str, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in layers}
    hooks = []

    def hook_for(layer: str) -> object:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            assert isinstance(module, READER_TYPES)
            total = output.numel() // output.shape[-1 if isinstance(module, nn.Linear) else 1]
            chosen = sample_rows(total, -(-limit * len(inputs[0]) // len(images)), generator)
            features = input_rows(inputs[0], tuple(output.shape[2:]), module, chosen)[0]
            target = output_rows(output, module, chosen)
            rows[layer].append((features.cpu(), (target if module.bias is None else target - module.bias).cpu()))

        return hook

    for layer in layers:
        hooks.append(model.get_submodule(layer).register_forward_hook(hook_for(layer)))  # type: ignore[arg-type]
    with hooked(hooks):
        for batch in torch.split(images, _BATCH):
            model(batch)
    return {
        layer: _Samples(*(torch.cat(parts).numpy() for parts in zip(*found, strict=True)))
        for layer, found in rows.items()
        if found
    }
