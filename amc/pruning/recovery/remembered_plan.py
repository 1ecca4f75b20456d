"""What the dense network computes, noted once for all networks that lose weights but no channels."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from amc.pruning.recovery.reconstruction import Reconstruction, ReconstructionOptions
from amc.runtime.call import named_tensors
from amc.structure import ModelStructure
from amc.utils.progress import Progress, silent, steps_of

_HELD_BYTES = 1 << 28
"""Targets of no more than this are held."""


class RememberedPlan:
    """Plans refits, and keeps the last plan for the next network that is cut alike.

    All networks that lose weights but no channels are refit on the same rows toward the same outputs. Which rows these
    are takes gradients of the dense network, a fifth of a refit's time.
    """

    def __init__(self) -> None:
        """Remembers nothing yet."""
        self._last: tuple[Tensor, list[Any], Reconstruction] | None = None

    def plan(
        self,
        dense: nn.Module,
        pruned: nn.Module,
        structure: ModelStructure,
        kept: Mapping[int, Tensor],
        images: Tensor,
        options: ReconstructionOptions,
        advance: Progress = silent,
        *,
        sparse: Collection[str] = (),
    ) -> Reconstruction:
        """Returns what `Reconstruction.plan` does."""
        versions = [
            _version(tensor) for tensor in (images, *named_tensors(dense).values()) if isinstance(tensor, Tensor)
        ]
        key = [options, frozenset(sparse), versions]
        if self._last is not None and not kept:
            seen, known, last = self._last
            if last.dense is dense and seen is images and known == key:
                return replace(last, step=steps_of(len(last.jobs), advance))
        plan = Reconstruction.plan(dense, pruned, structure, kept, images, options, advance, sparse=sparse)
        held = sum(target.nbytes for target in plan.targets.values())
        self._last = None if kept or held > _HELD_BYTES else (images, key, plan)
        return plan


def _version(tensor: Tensor) -> int:
    """Returns how often a tensor was changed in place."""
    return 0 if tensor.is_inference() else tensor._version
