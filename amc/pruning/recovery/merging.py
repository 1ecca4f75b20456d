"""Neuron merging: readers of a removed channel read the most similar one that stays (Kim et al., 2020)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from amc.errors import ConfigurationError
from amc.pruning.batch_norm import affine_of, is_affine, is_batch_norm
from amc.pruning.regression.regressions import ReadCut, read_cuts
from amc.runtime.call import named_tensors
from amc.structure import ChannelGroup, LayerSpec, ModelStructure
from amc.structure.slicing import kept_positions
from amc.utils.progress import Progress, silent

if TYPE_CHECKING:
    from amc.pruning.recovery.registry import PrunedNetwork


@dataclass(frozen=True)
class Merge:
    """One removed channel that another stands in for.

    Attributes:
        removed: The channel that went.
        kept: The channel that stands in for it.
        scale: What the other's output is multiplied by.
    """

    removed: int
    kept: int
    scale: float


@dataclass(frozen=True)
class NeuronMerging:
    """Adds the weights that read a removed channel to those of the most similar one that stays.

    Paper: arXiv:2010.13160, section 3: filters are compared by the cosine of their weights and bias; with a batch norm
    behind them, the scale is `s * gamma_i * sigma_j / (sigma_i * gamma_j)`, the shift that it leaves is ignored, and
    the channel of the smallest `mix * (1 - cosine) + (1 - mix) * shift` (shifts over scales, in [0, 1]) stands in.
    Looks at no data. Exact through a ReLU for parallel filters without a shift. Deviations: only channels of a positive
    scale stand in, where a ReLU is not known to be absent; sigma is the standard deviation (the authors' code has the
    variance there, and two indices exchanged); groups with several writers, or with anything but a batch norm between
    the layers, are left as they are, and so are single weights.

    Attributes:
        threshold: Smallest cosine; less similar channels are not merged (paper: 0.45 on LeNet, 0.1 on deeper networks).
        mix: Weight of the cosine against the shift, 0 to 1 (paper: 0.85, or 0.8).

    Raises:
        ConfigurationError: If one is out of its range.
    """

    threshold: float = 0.1
    mix: float = 0.85
    refits_candidates: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Checks the options."""
        if not -1 <= self.threshold <= 1 or not 0 <= self.mix <= 1:
            raise ConfigurationError(
                f"merging: threshold must be in [-1, 1] and mix in [0, 1], not {self.threshold:g} and {self.mix:g}"
            )

    @torch.no_grad()
    def __call__(self, pruned: PrunedNetwork, advance: Progress = silent) -> None:
        """Merges; see `amc.pruning.recovery.registry.Recovery`."""
        tensors = named_tensors(pruned.dense)
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        stays = kept_positions(pruned.structure, pruned.kept, shapes)
        for done, (index, kept) in enumerate(pruned.kept.items(), start=1):
            group = pruned.structure.groups[index]
            readers = read_cuts(pruned.dense, pruned.structure, group)
            writer = lone_writer(pruned.dense, pruned.structure, group, readers)
            readers = [cut for cut in readers if cut.tensor in stays]  # those of dropped blocks are gone
            if writer is not None:
                for merge in find_merges(pruned.dense, writer, kept.cpu(), self.threshold, self.mix):
                    for cut in readers:
                        _add(pruned.model, tensors[cut.tensor].detach(), cut, stays[cut.tensor], merge)
            advance(done / len(pruned.kept))


def lone_writer(
    dense: nn.Module, structure: ModelStructure, group: ChannelGroup, readers: list[ReadCut]
) -> LayerSpec | None:
    """Returns the layer that alone writes a group, if nothing but its batch norm stands between it and the readers."""
    if len(group.writers) != 1 or len(readers) != len(group.readers):
        return None
    layer = next((spec for spec in structure.layers if spec.name == group.writers[0]), None)
    if layer is None or layer.calls != 1 or layer.weight != f"{layer.name}.weight":
        return None
    norm = None if layer.batch_norm is None else dense.get_submodule(layer.batch_norm)
    own = {layer.name, layer.batch_norm or layer.name}
    others = {cut.tensor for cut in group.cuts if cut.tensor.rpartition(".")[0] not in own}
    if others != {cut.tensor for cut in readers} or (norm is not None and not is_affine(norm)):
        return None
    return layer


def find_merges(dense: nn.Module, writer: LayerSpec, kept: Tensor, threshold: float, mix: float) -> list[Merge]:
    """Finds the channel that stands in for each removed one of a layer.

    Args:
        dense: The dense network.
        writer: The layer that writes the channels.
        kept: The channels that stay, rising.
        threshold: Smallest cosine.
        mix: What the cosine counts beside the shift.
    """
    module = dense.get_submodule(writer.name)
    parts = [tensor.detach().double() for tensor in (module.weight, module.bias) if isinstance(tensor, Tensor)]
    filters = torch.cat([part.reshape(len(part), -1) for part in parts], 1).cpu()
    norms = filters.norm(dim=1)
    removed = sorted(set(range(len(filters))) - set(kept.tolist()))
    cosines = (filters[removed] @ filters[kept].T) / (norms[removed, None] * norms[kept]).clamp_min(1e-300)
    ratios = norms[removed, None] / norms[kept].clamp_min(1e-300)
    scales, shifts = behind_norm(dense, writer, torch.tensor(removed), kept, ratios)
    distances = (shifts.abs() / scales.clamp_min(1e-300)).masked_fill(scales <= 0, torch.inf)
    costs = mix * (1 - cosines) + (1 - mix) * _between_0_and_1(distances)
    costs = costs.masked_fill((cosines < threshold) | (scales <= 0), torch.inf)
    best = costs.argmin(dim=1)
    return [
        Merge(channel, int(kept[place]), float(scales[row, place]))
        for row, (channel, place) in enumerate(zip(removed, best.tolist(), strict=True))
        if bool(torch.isfinite(costs[row, place]))
    ]


def behind_norm(
    dense: nn.Module, writer: LayerSpec, removed: Tensor, kept: Tensor, ratios: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns scales and shifts behind the writer's batch norm, `(removed, kept)`; the ratios and zeros without one.

    With parallel filters, `w_i = s w_j`, the norm's output for i is scale times that for j plus the shift. Where the
    gain of j is zero, so is the scale.
    """
    norm = None if writer.batch_norm is None else dense.get_submodule(writer.batch_norm)
    if not is_batch_norm(norm):
        return ratios, torch.zeros_like(ratios)
    factors, offsets = (part.detach().cpu() for part in affine_of(copy.deepcopy(norm).double()))
    i, j = removed[:, None], kept[None, :]
    scales = ratios * factors[i] / torch.where(factors == 0, torch.inf, factors)[j]
    return scales, offsets[i] - scales * offsets[j]


def _between_0_and_1(distances: Tensor) -> Tensor:
    """Brings the finite distances of each row to [0, 1]."""
    low = distances.amin(dim=1, keepdim=True)
    high = distances.masked_fill(distances.isinf(), -torch.inf).amax(dim=1, keepdim=True)
    return (distances - low) / (high - low).clamp_min(1e-300)


def _add(model: nn.Module, dense: Tensor, cut: ReadCut, stays: dict[int, Tensor], merge: Merge) -> None:
    """Adds the weights that read the removed channel to those that read its stand-in."""
    weight = model.get_submodule(cut.layer).weight
    assert isinstance(weight, Tensor)
    rows = stays[0].to(dense.device) if 0 in stays else torch.arange(dense.shape[0], device=dense.device)
    for source, target in zip(cut.positions[merge.removed], cut.positions[merge.kept], strict=True):
        place = int(torch.searchsorted(stays[1].cpu(), target))
        weight[:, place] += merge.scale * dense[rows, int(source)].to(weight)
