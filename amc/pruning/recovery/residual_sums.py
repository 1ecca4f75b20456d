"""Sums that a layer's output enters directly, as at the end of a residual block.

Sequential reconstruction fits such a layer so that the sum comes out right, not only its own summand. The trace of the
network has found the sums; in each pass they are identified by the numbers of their operators.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from amc.errors import StructureError
from amc.pruning.batch_norm import is_affine
from amc.pruning.recovery.dropped_operators import Operators, stand_ins
from amc.runtime.call import call
from amc.runtime.hooks import hooked
from amc.structure import ModelStructure
from amc.structure.operator_watch import OperatorWatch
from amc.structure.residual_sums import OperatorCall, ResidualSum


def check_found(found: ResidualSum, holds: bool) -> None:
    """Accepts whether a sum was found in another pass.

    Raises:
        StructureError: If it was not.
    """
    if not holds:
        raise StructureError(
            f"a network must run the same operators for every batch: the sum that {found.outlet} enters on two "
            f"images is not there on more; prune by the policy with another reconstruction, as in "
            "amc prune RUN --pruning.recovery once"
        )


def traced_sums(structure: ModelStructure, model: nn.Module) -> dict[str, ResidualSum]:
    """Returns the sums that the trace has seen, by the layer's name, where the layer's output enters one as it is.

    A batch norm between them must be affine in evaluation mode and do nothing more.

    Args:
        structure: The structure of the network.
        model: The network.
    """
    return {
        found.layer: found
        for found in structure.sums
        if found.outlet == found.layer or is_affine(model.get_submodule(found.outlet))
    }


def confirm_residual_sums(
    sums: Mapping[str, ResidualSum], model: nn.Module, images: Tensor, dropped: Operators | None = None
) -> dict[str, ResidualSum]:
    """Keeps the sums that are found again in another pass: there, the same two tensors are added.

    A network need not run the same operators twice, and the pruned one not those of the dense one. A wrong summand
    would be worse than none.

    Args:
        sums: The sums, by the layer's name.
        model: The network of the other pass, in evaluation mode.
        images: A small batch.
        dropped: What modules of dropped blocks ran in the dense network.

    Returns:
        Those of the sums that hold.
    """
    additions = {found.addition: name for name, found in sums.items()}
    others = {found.other for found in sums.values()}
    held: dict[OperatorCall, Any] = {}
    outlets: dict[str, Any] = {}
    confirmed: dict[str, ResidualSum] = {}

    def report(step: OperatorCall, args: Sequence[Any], output: Any) -> None:
        if step in others:
            held[step] = output
        if step in additions and args[0].shape == args[1].shape:
            found = sums[additions[step]]
            if {id(args[0]), id(args[1])} == {id(held.get(found.other)), id(outlets.get(found.outlet))}:
                confirmed[additions[step]] = found

    def noter(outlet: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            outlets[outlet] = output

        return hook

    names = {found.outlet for found in sums.values()}
    hooks = [model.get_submodule(name).register_forward_hook(noter(name)) for name in names]
    watch = OperatorWatch(report)
    hooks += stand_ins(model, watch, dropped or {})
    with hooked(hooks), torch.no_grad(), watch.watching():
        call(model, images)
    return confirmed


class Summands:
    """Holds the other summands of the sums that are still to come."""

    def __init__(self, sums: Sequence[ResidualSum]) -> None:
        """Starts with nothing held."""
        self._wanted = Counter(found.other for found in sums)
        self._by_addition = {found.addition: found for found in sums}
        self._held: dict[OperatorCall, Tensor] = {}
        self._taken: dict[OperatorCall, int] = {}

    def report(self, step: OperatorCall, args: Sequence[Any], output: Any) -> None:
        """Holds a summand that is wanted; checks that an addition adds the one that was taken for it."""
        if step in self._wanted:
            self._held[step] = output
        if step in self._by_addition:
            taken = self._taken.get(step)
            check_found(self._by_addition[step], taken is None or taken in [id(one) for one in args[:2]])

    def holds(self, found: ResidualSum | None) -> bool:
        """Returns whether the other summand of a sum has been computed; there is nothing to wait for without a sum."""
        return found is None or found.other in self._held

    def take(self, found: ResidualSum) -> Tensor:
        """Returns the other summand of a sum."""
        other = found.other
        self._wanted[other] -= 1  # a summand is released after its last use: held to the end, they would fill memory
        self._taken[found.addition] = id(self._held[other])  # the network holds it until the addition
        return self._held[other] if self._wanted[other] else self._held.pop(other)
