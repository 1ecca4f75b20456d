"""The candidates of a search: one working copy of the network, its tensors replaced for each allocation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from amc.pruning.batch_norm import BATCH_NORMS, is_batch_norm
from amc.pruning.folding import Fold, find_folds, fold_in_place
from amc.pruning.plan import PrunePlan, Pruner
from amc.pruning.recovery.recalibration import batch_statistics
from amc.runtime.call import move, named_tensors
from amc.runtime.outputs import main_output
from amc.structure import Allocation
from amc.structure.residual_blocks import drop_modules, is_within, put_back
from amc.structure.slicing import attribute_values, set_attributes, set_tensors


class CandidateNetwork:
    """A network that takes the shape of any allocation without copies, solves or tracing.

    Its tensors are looked up and sliced, so it really is smaller, and saved FLOPs save time. Batch norms are
    folded into the layers ahead of them. In float32, its logits equal those of the pruner's `prune(allocation)`.
    """

    def __init__(
        self,
        pruner: Pruner,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        channels_last: bool = True,
    ) -> None:
        """Makes the working copy.

        Args:
            pruner: Looks the tensors of an allocation up.
            device: Where the copy computes.
            dtype: Number format of the copy; batch norms that cannot be folded stay in float32.
            channels_last: Whether images and weights are laid out channels-last, which is faster; code such as
                `x.view(len(x), -1)` does not take it.
        """
        self._pruner = pruner
        self._state = {name: tensor.detach() for name, tensor in named_tensors(pruner.model).items()}
        self._folds = find_folds(pruner.model, pruner.structure.layers)
        self._fold_of = {
            source: fold for fold in self._folds.values() for source in fold.sources if source in self._state
        }
        self._folded_norms = frozenset(fold.norm for fold in self._folds.values())
        self._network = copy.deepcopy(pruner.model).eval().requires_grad_(False)
        fold_in_place(self._network, self._folds)
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        move(self._network, device=device, dtype=dtype)
        move(self._network, memory_format=self._layout)
        norms = [module for module in self._network.modules() if isinstance(module, BATCH_NORMS)]
        for module in norms:
            module.float()
        self._has_statistics = bool(self._folds) or any(is_batch_norm(module) for module in norms)
        self._changed: frozenset[str] = frozenset()
        self._dropped: dict[str, nn.Module] = {}
        self._plan: PrunePlan | None = None
        self.dense = Allocation(pruner.kind, {})
        self.device, self._dtype = torch.device(device), dtype

    def prepare(self, images: Tensor) -> Tensor:
        """Puts normalised images `(N, C, H, W)` into the form in which the forward pass is fastest."""
        images = images.to(device=self.device, dtype=self._dtype if images.is_floating_point() else None)
        return images.contiguous(memory_format=self._layout) if images.dim() == 4 else images

    def load(self, allocation: Allocation) -> nn.Module:
        """Gives the working copy the shape and the weights of an allocation.

        Returns:
            The working copy; it is valid until the next call.

        Raises:
            ConfigurationError: If the allocation does not fit the network.
        """
        plan = self._pruner.plan(allocation)
        changed = frozenset(plan.tensors)
        put_back(self._network, self._dropped)
        set_tensors(self._network, self._tensors(self._finder(plan.tensors), changed | self._changed))
        self._changed, self._plan = changed, plan
        values = attribute_values(self._pruner.structure, plan.widths)
        set_attributes(self._network, [value for value in values if value[0] not in self._folded_norms])
        self._dropped = drop_modules(self._network, plan.dropped)
        return self._network

    @torch.inference_mode()
    def logits(self, allocation: Allocation, batches: Iterable[Tensor]) -> Tensor:
        """Runs an allocation's network.

        Args:
            allocation: The widths.
            batches: Images as `prepare` returns them.

        Returns:
            Logits in float32, `(N, classes)`.

        Raises:
            ConfigurationError: If the allocation does not fit the network.
        """
        self.load(allocation)
        return torch.cat([self.run(batch) for batch in batches])

    @torch.inference_mode()
    def recalibrate(self, images: Tensor) -> Tensor:
        """Re-estimates the batch norms of the network that was loaded last; see `amc.pruning.recovery.recalibration`.

        Args:
            images: As `prepare` returns them, all of them in one pass.

        Returns:
            Logits of these images with the new statistics, as `run` would return them.
        """
        assert self._plan is not None
        if not self._has_statistics:
            return self.run(images)
        find, gone = self._finder(self._plan.tensors), self._plan.dropped
        folds = {layer: fold for layer, fold in self._folds.items() if not is_within(layer, gone)}
        set_tensors(self._network, self._unfolded(find, folds))
        found, outputs = batch_statistics(self._network, folds, find, images)
        names = {*found, *(fold.weight for fold in folds.values())}
        set_tensors(self._network, self._tensors(self._finder({**self._plan.tensors, **found}), names))
        self._changed |= names
        return main_output(outputs).float()

    @torch.inference_mode()
    def run(self, batch: Tensor) -> Tensor:
        """Runs the network that was loaded last on images as `prepare` returns them; its main output in float32."""
        return main_output(self._network(batch)).float()

    def _unfolded(self, find: Callable[[str], Tensor | None], folds: Mapping[str, Fold]) -> dict[str, Tensor]:
        """Returns the weights and biases that layers had before batch norms were folded into them."""
        values: dict[str, Tensor] = {}
        for fold in folds.values():
            weight, bias = find(fold.weight), find(f"{fold.layer}.bias")
            assert weight is not None
            bias = weight.new_zeros(len(weight)) if bias is None else bias
            values[fold.weight] = self._cast(weight, fold.weight)
            values[f"{fold.layer}.bias"] = self._cast(bias, f"{fold.layer}.bias")
        return values

    def _tensors(self, find: Callable[[str], Tensor | None], names: Iterable[str]) -> dict[str, Tensor]:
        """Returns the new values of the tensors named, folded where a batch norm was folded."""
        values: dict[str, Tensor] = {}
        for name in names:
            fold = self._fold_of.get(name)
            if fold is None:
                values[name] = self._cast(find(name), name)
            elif fold.weight not in values:
                weight, bias = fold.fold(find)
                values[fold.weight] = self._cast(weight, fold.weight)
                values[f"{fold.layer}.bias"] = self._cast(bias, f"{fold.layer}.bias")
        return values

    def _finder(self, changes: Mapping[str, Tensor]) -> Callable[[str], Tensor | None]:
        """Returns the look-up of the network's tensors under some changes."""
        return lambda name: changes.get(name, self._state.get(name))

    def _cast(self, value: Tensor | None, name: str) -> Tensor:
        """Puts a tensor into the working copy's form."""
        assert value is not None
        parent, _, leaf = name.rpartition(".")
        place = getattr(self._network.get_submodule(parent), leaf)
        value = value.to(device=self.device, dtype=place.dtype)
        # Not contiguous(): that leaves the strides of an axis of length one as they are, and with other strides than
        # those of the untouched copy another kernel may run, so that a score would depend on what was scored before.
        return value.clone(memory_format=self._layout) if value.dim() == 4 else value
