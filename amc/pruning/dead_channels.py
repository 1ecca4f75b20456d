"""Removes channels that weight pruning has left without use: a smaller network with the same outputs.

A channel is dead if nothing reads it any more, or if nothing writes it any more and what is left of it, a constant, can
be added to the outputs of the layers that read it. Removing one can leave others dead, so it is done until none is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from amc.pruning.regression.regressions import ReadCut, read_cuts
from amc.runtime.call import call, inference, input_of, named_tensors, tensors_in
from amc.runtime.hooks import run_hooked
from amc.structure import ChannelGroup, ModelStructure, TensorCut
from amc.structure.slicing import cut

_IMAGES = 64
"""Images on which constants are read off, and on which outputs must agree."""
_SAME = 1e-6
_AGREES = 1e-4


def without_dead_channels(
    model: nn.Module, structure: ModelStructure, images: Any
) -> tuple[nn.Module, dict[int, Tensor]]:
    """Returns a network without its dead channels.

    Args:
        model: A network with zeros among its weights, in evaluation mode; it is not changed.
        structure: The structure of the dense network, whose shapes it has.
        images: Inputs `(N, C, H, W)`; the outputs of the two networks agree on them.

    Returns:
        The smaller network, and what it keeps of every group that was cut, by its index. The network itself and
        nothing if no channel is dead, or the outputs would differ.
    """
    images = images[:_IMAGES]
    search = _Search(model, structure)
    search.run(images)
    kept = search.kept()
    if not kept:
        return model, {}
    smaller = copy.deepcopy(model)
    tensors = named_tensors(smaller)
    with torch.no_grad():
        for name, weight in search.weights.items():  # a group whose channels are all dead keeps one, without weights
            tensors[name].copy_(weight)
        for name, addition in search.folds.items():
            tensors[name] += addition.to(tensors[name])
    cut(smaller, structure, kept)
    with inference(model), inference(smaller):
        before, after = (tensors_in(call(network, images)) for network in (model, smaller))
    agree = len(before) == len(after) and all(map(_agree, before, after))
    return (smaller, kept) if agree else (model, {})


def _agree(before: Tensor, after: Tensor) -> bool:
    """Returns whether two outputs are the same but for rounding."""
    if before.shape != after.shape or not before.numel():
        return before.shape == after.shape
    before, after = (torch.view_as_real(one) if one.is_complex() else one.float() for one in (before, after))
    return torch.allclose(before, after, rtol=_AGREES, atol=_AGREES * float(before.abs().max()))


class _Search:
    """Looks for dead channels.

    Attributes:
        weights: The network's parameters, those of dead channels cleared.
        folds: What to add to biases, and to running means, by name, in place of constants.
    """

    def __init__(self, model: nn.Module, structure: ModelStructure) -> None:
        """Starts with all channels alive.

        Groups over which a statistic is taken stay whole: a channel without a reader counts in it.
        """
        self._model, self._structure = model, structure
        self.weights = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
        groups = {index: structure.groups[index] for index in structure.prunable}
        self._groups = {index: group for index, group in groups.items() if _is_plain(group, self.weights)}
        self._alive = {index: torch.ones(group.channels, dtype=torch.bool) for index, group in self._groups.items()}
        self.folds: dict[str, Tensor] = {}

    def kept(self) -> dict[int, Tensor]:
        """Returns the channels that are alive of the groups with dead ones; each keeps one at least."""
        found = {index: alive for index, alive in self._alive.items() if not alive.all()}
        return {index: alive.nonzero()[:, 0] if alive.any() else torch.tensor([0]) for index, alive in found.items()}

    def run(self, images: Any) -> None:
        """Looks until no further channel is dead."""
        constants: dict[str, _Constants] | None = None
        while True:
            while any(self._bury(index, self._alive[index] & ~self._used(index, "read")) for index in self._groups):
                pass
            unwritten = {index: self._alive[index] & ~self._used(index, "write") for index in self._groups}
            if not any(bool(found.any()) for found in unwritten.values()):
                return
            constants = _constants(self._model, self._readers(), images) if constants is None else constants
            if not any(self._fold(index, found, constants) for index, found in unwritten.items()):
                return

    def _readers(self) -> list[ReadCut]:
        """Returns the layers that can take a constant, one way of reading each."""
        return [read for group in self._groups.values() for read in read_cuts(self._model, self._structure, group)]

    def _used(self, index: int, role: str) -> Tensor:
        """Returns for which channels a weight of a role is not zero, `(C,)`."""
        used = torch.zeros(self._groups[index].channels, dtype=torch.bool)
        for entry in _weight_cuts(self._groups[index], self.weights, role):
            moved = self.weights[entry.tensor].movedim(entry.axis, 0).flatten(1)
            used |= (moved != 0).any(1).cpu()[torch.tensor(entry.positions)].any(1)
        return used

    def _bury(self, index: int, dead: Tensor) -> bool:
        """Notes channels as dead and clears their weights; returns whether there are any."""
        if not dead.any():
            return False
        self._alive[index] &= ~dead
        for role in ("read", "write"):
            for entry in _weight_cuts(self._groups[index], self.weights, role):
                weight = self.weights[entry.tensor]
                weight.index_fill_(entry.axis, torch.tensor(entry.positions)[dead].flatten().to(weight.device), 0.0)
        return True

    def _fold(self, index: int, dead: Tensor, constants: Mapping[str, _Constants]) -> bool:
        """Adds what is left of channels without a writer to their readers' outputs; returns whether there were any."""
        group = self._groups[index]
        readers = {read.tensor: read for read in read_cuts(self._model, self._structure, group)}
        if any(entry.tensor not in constants for entry in _weight_cuts(group, self.weights, "read")):
            return False
        for tensor, read in readers.items():
            dead = dead & constants[tensor].foldable[read.positions].all(1)
        for tensor, read in readers.items() if dead.any() else ():
            positions = read.positions[dead].flatten()
            weight = self.weights[tensor][:, positions].double()
            added = weight.reshape(*weight.shape[:2], -1).sum(2) @ constants[tensor].values[positions].to(weight.device)
            if read.sink is not None and added.any():
                sign, name = read.sink
                self.folds[name] = self.folds.get(name, torch.zeros_like(added)) + sign * added
        return self._bury(index, dead)


@dataclass(frozen=True)
class _Constants:
    """What a layer reads that is the same everywhere.

    Attributes:
        values: The input's value at the first place, by channel of the input, float64, `(C,)`.
        foldable: Whether it has this value at all places, and a constant in the layer's outputs can stand for it.
    """

    values: Tensor
    foldable: Tensor


def _constants(model: nn.Module, readers: Sequence[ReadCut], images: Any) -> dict[str, _Constants]:
    """Runs a network and notes which inputs of some layers are constant, by the weight's name.

    A constant other than zero can be moved into the outputs where the layer has something to take it, and does not pad
    its input with zeros. Grouped convolutions are left out, and so are layers that run several times.
    """
    found: dict[str, _Constants] = {}
    seen: set[str] = set()

    def noter(read: ReadCut) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Tensor]], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            values = input_of(inputs, named)
            values = values if isinstance(module, nn.Linear) else values.movedim(1, -1)
            rows = values.reshape(-1, values.shape[-1]).double()
            spread = rows.amax(0) - rows.amin(0)
            same = spread <= _SAME * rows[0].abs().clamp_min(1.0)
            movable = read.sink is not None and not _pads_zeros(module)
            constants = _Constants(rows[0].cpu(), (same & ((rows[0] == 0) | movable)).cpu())
            found[read.tensor] = constants
            if read.tensor in seen:
                del found[read.tensor]
            seen.add(read.tensor)

        return hook

    one_group = {read.tensor: read for read in readers if read.conv_groups == 1}
    hooks = [
        model.get_submodule(read.layer).register_forward_pre_hook(noter(read), with_kwargs=True)
        for read in one_group.values()
    ]
    run_hooked(model, [images], hooks)
    return found


def _pads_zeros(module: nn.Module) -> bool:
    """Returns whether a convolution pads its input with zeros."""
    if not isinstance(module, nn.Conv1d | nn.Conv2d) or module.padding_mode != "zeros":
        return False
    return module.padding != "valid" if isinstance(module.padding, str) else any(module.padding)


def _is_plain(group: ChannelGroup, weights: Mapping[str, Tensor]) -> bool:
    """Returns whether only weights use a group's channels."""
    return not group.normalised and bool(_weight_cuts(group, weights, "read"))


def _weight_cuts(group: ChannelGroup, weights: Mapping[str, Tensor], role: str) -> list[TensorCut]:
    """Returns how a group cuts weights, biases left out."""
    return [cut for cut in group.cuts if cut.role == role and cut.tensor in weights and weights[cut.tensor].dim() > 1]
