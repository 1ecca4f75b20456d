"""What the agent sees of a layer: the state of Eq. 1 of AMC (arXiv:1802.03494), scaled to [0, 1].

The layer of a decision is the one that `PruningProblem.layers` names: the first that writes the channel group (filter
pruning), or the layer whose weights are pruned. `FEATURES` defines every feature, its unit and its scale.

With D the dense cost in the budget's metric (FLOPs without a budget), `cost` the cost model, and `w_0 .. w_(t-1)` the
widths chosen so far:

    reduced = (D - cost(w_0 .. w_(t-1), all others at their largest)) / D
    rest    = (cost(w_0 .. w_(t-1), all others at their largest)
               - cost(w_0 .. w_(t-1), decision t at its largest, all others at their smallest)) / D

Deviation from the paper: there the last two sum the dense FLOPs of the layers before and after t. Here they are exact
costs of whole networks, so that they account for the layers that read a pruned group, and "rest" is what the later
decisions can still remove, which is what the budget depends on. Both are of the same metric at every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from amc.problem import PruningProblem, Walk
from amc.problem.evaluator import Evaluator
from amc.structure import LayerSpec
from envs.extra_features import EXTRA_FEATURES


class Feature(NamedTuple):
    """One entry of the observation: its name in Eq. 1, what it is in which unit, and what it is divided by."""

    name: str
    unit: str
    scale: str


FEATURES: tuple[Feature, ...] = (
    Feature("t", "index of the decision", "number of decisions - 1"),
    Feature("n", "output channels of the dense layer", "largest n of all decisions"),
    Feature("c", "input channels of the dense layer", "largest c of all decisions"),
    Feature("h", "height of the input, pixels (sequences: length)", "largest h of all decisions"),
    Feature("w", "width of the input, pixels", "largest w of all decisions"),
    Feature("stride", "larger stride of the two axes, pixels", "largest stride of all decisions"),
    Feature("k", "larger side of the kernel, pixels", "largest k of all decisions"),
    Feature("flops", "FLOPs of the dense layer (one fused multiply-add is one)", "largest FLOPs of all decisions"),
    Feature("reduced", "budget metric that the choices so far save", "dense cost in that metric"),
    Feature("rest", "budget metric that the later decisions can still save", "dense cost in that metric"),
    Feature("last_action", "pruning ratio of the step before, applied (mode project: asked for); 0 at first", "1"),
)


def feature_names(extra: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns the names of a state's features: the paper's 11, then those of `envs.extra_features` that are named."""
    return (*(feature.name for feature in FEATURES), *extra)


class ObservationEncoder:
    """Encodes where a walk stands as a vector of shape `(11 + extra,)`, float32, every entry in [0, 1]."""

    def __init__(self, problem: PruningProblem, extra: Sequence[str] = (), evaluator: Evaluator | None = None) -> None:
        """Prepares the features that do not change, one row per decision.

        Args:
            problem: The problem.
            extra: Names of features beside the paper's; see `envs.extra_features`.
            evaluator: What these may ask; needed if there are some.
        """
        assert evaluator is not None or not extra
        self._extra = [EXTRA_FEATURES.get(name)().of(problem, evaluator) for name in extra] if evaluator else []
        raw = np.array([_static_features(t, layer) for t, layer in enumerate(problem.layers)], dtype=np.float64)
        self._static = (raw / np.maximum(raw.max(axis=0), 1)).astype(np.float32)
        self._dense = problem.cost_model.dense

    def encode(self, walk: Walk, last_action: float) -> NDArray[np.float32]:
        """Returns the observation of the open decision; after the last one, the static features stay its own.

        Args:
            walk: The choices so far.
            last_action: Pruning ratio applied at the step before.
        """
        row = self._static[min(walk.index, len(self._static) - 1)]
        paper = (walk.reduced / self._dense, walk.removable_later / self._dense, last_action)
        moving = (*paper, *(feature(walk) for feature in self._extra))
        return np.concatenate([row, np.array(moving, dtype=np.float32)])


def _static_features(t: int, layer: LayerSpec) -> tuple[int, ...]:
    return (
        t,
        layer.out_channels,
        layer.in_channels,
        *layer.input_size,
        max(layer.stride),
        max(layer.kernel_size),
        layer.flops,
    )
