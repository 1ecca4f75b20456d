"""The seam of criteria: what scores the channels of a group, or the weights of a layer.

A criterion looks at evidence and returns scores; what scores higher stays longer. The scores are taken once, on the
dense network, so the sets that are kept at different widths are nested. A criterion does no more than score: the refit
of what is left, the budget and the allocation are the same for all of them.

One of your own is a callable with `needs`, registered by a name:

    class Largest:
        needs = frozenset()

        def __call__(self, group, evidence):
            return evidence.tensors[f"{group.name}.weight"].flatten(1).abs().amax(1)

    FILTER_CRITERIA.register("largest", Largest, "largest absolute weight of the filters")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from amc.errors import ConfigurationError
from amc.pruning.criteria.evidence import Evidence, Needs
from amc.pruning.regression.least_squares import NormalEquations
from amc.structure import ChannelGroup, LayerSpec
from amc.utils.registry import Registry


class FilterCriterion(Protocol):
    """Scores the channels of one group at a time."""

    @property
    def needs(self) -> Needs:
        """Returns the evidence that it needs beside the weights: any of `ACTIVATIONS`, `GRAMS` and `GRADIENTS`."""

    def __call__(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Scores the channels of a group.

        Args:
            group: The group.
            evidence: What is known of the dense network; not to be changed.

        Returns:
            A finite score for each channel, `(C,)`, of any floating-point type; higher stays. Ties go by index, the
            lower first. Scores of different groups need not be comparable. The same evidence and seed give the same
            scores; what is drawn comes from `evidence.generator(group.name)`.

        Raises:
            ConfigurationError: If the network lacks what the criterion looks at.
        """


class WeightCriterion(Protocol):
    """Scores the weights of one layer at a time."""

    @property
    def needs(self) -> Needs:
        """Returns the evidence that it needs beside the weights: any of `ACTIVATIONS`, `GRAMS` and `GRADIENTS`."""

    def __call__(self, layer: LayerSpec, evidence: Evidence) -> Tensor:
        """Scores the weights of a layer.

        Args:
            layer: The layer; its weight is `evidence.tensors[layer.weight]`.
            evidence: What is known of the dense network; not to be changed.

        Returns:
            A finite score for each weight, of the weight's shape and device; higher stays. Among ties, what comes first
            in memory stays. Otherwise as `FilterCriterion`.

        Raises:
            ConfigurationError: If the network lacks what the criterion looks at.
        """


@runtime_checkable
class ChoosesAgain(Protocol):
    """A criterion for weights that is applied again at delivery, layer by layer, to the pruned network's own inputs."""

    def on_equations(self, equations: NormalEquations, importance: Tensor) -> Tensor:
        """Scores the weights of a layer.

        Args:
            equations: The normal equations of the layer, from the pruned network's activations to the dense outputs.
            importance: Weight of a squared error in each output, `(O,)`.

        Returns:
            A finite score for each weight, `(groups, O / groups, d)`; higher stays.
        """


FILTER_CRITERIA: Registry[Callable[..., FilterCriterion]] = Registry(
    "criterion", "amc.filter_criteria", method="__call__"
)
"""By name, what makes a criterion for channels; its options are keyword arguments."""
WEIGHT_CRITERIA: Registry[Callable[..., WeightCriterion]] = Registry(
    "weight criterion", "amc.weight_criteria", method="__call__"
)
"""By name, what makes a criterion for single weights; its options are keyword arguments."""

_HERE = "amc.pruning.criteria"
for _name, _target, _summary in (
    ("elimination", "regression:GreedyElimination", "greedy backward elimination on the readers' normal equations"),
    ("l1", "norms:L1Norm", "sum of the absolute weights of the filters (the paper's)"),
    ("l2", "norms:L2Norm", "Euclidean norm of the filters"),
    ("fpgm", "norms:GeometricMedian", "distance of the filters from one another (geometric median)"),
    ("bn_scale", "norms:BatchNormScale", "scale of the batch norm (Network Slimming)"),
    ("gates", "norms:Gates", "scale and shift of the last norm, or the filter: zero where a penalty has closed it"),
    ("taylor", "gradients:TaylorChannels", "squared gradient of a gate on the channel, first-order Taylor expansion"),
    ("snip", "gradients:SnipChannels", "sum of abs(weight * gradient) over all weights of the channel"),
    ("apoz", "activations:ActiveShare", "share of activations that are not zero (APoZ)"),
    ("lasso", "regression:LassoSelection", "LASSO on what the channel brings to the layers that read it"),
    ("thinet", "regression:ThiNet", "greedy growth of the set whose removal changes the next layers least"),
    ("random", "norms:RandomChannels", "random order, as a control"),
):
    FILTER_CRITERIA.register(_name, f"{_HERE}.{_target}", _summary)
for _name, _target, _summary in (
    ("magnitude", "norms:Magnitude", "absolute value (the paper's)"),
    ("snip", "gradients:SnipWeights", "abs(weight * gradient), connection sensitivity"),
    ("taylor", "gradients:TaylorWeights", "squared weight * gradient, averaged over minibatches"),
    ("wanda", "activations:Wanda", "abs(weight) * norm of its input, compared by output"),
    ("obs", "surgeon:OptimalBrainSurgeon", "what removal costs with the other weights of the output refit"),
    ("random", "norms:RandomWeights", "random order, as a control"),
):
    WEIGHT_CRITERIA.register(_name, f"{_HERE}.{_target}", _summary)
CRITERIA: Mapping[str, Registry[Any]] = {"filter": FILTER_CRITERIA, "weight": WEIGHT_CRITERIA}
"""The registries by pruning family."""


def removal_order(criterion: FilterCriterion, group: ChannelGroup, evidence: Evidence) -> Tensor:
    """Returns the channels of a group in the order in which they go, lowest score first, int64 `(C,)`, on the CPU.

    Raises:
        ConfigurationError: If the criterion returns anything but one finite score per channel.
    """
    return channel_scores(criterion, group, evidence).cpu().argsort(stable=True)


def channel_scores(criterion: FilterCriterion, group: ChannelGroup, evidence: Evidence) -> Tensor:
    """Returns the scores of a group's channels, `(C,)`.

    Raises:
        ConfigurationError: If the criterion returns anything but one finite score per channel.
    """
    return _checked(criterion(group, evidence), (group.channels,), f"channel of {group.name}", criterion)


def weight_scores(criterion: WeightCriterion, layer: LayerSpec, evidence: Evidence) -> Tensor:
    """Returns the scores of a layer's weights, in the weight's shape.

    Raises:
        ConfigurationError: If the criterion returns anything but one finite score per weight.
    """
    shape = tuple(evidence.tensors[layer.weight].shape)
    return _checked(criterion(layer, evidence), shape, f"weight of {layer.name}", criterion)


def _checked(scores: Tensor, shape: tuple[int, ...], what: str, criterion: object) -> Tensor:
    """Checks what a criterion returns; it may be the user's own."""
    name = type(criterion).__name__
    if not isinstance(scores, Tensor):
        raise ConfigurationError(
            f"a criterion must return its scores as a tensor, {shape}; {name} returns {type(scores).__name__}"
        )
    scores = scores.detach()
    if tuple(scores.shape) != shape:
        raise ConfigurationError(
            f"a criterion must return one score for each {what}, {shape}; {name} returns {tuple(scores.shape)}"
        )
    if not bool(torch.isfinite(scores).all()):
        raise ConfigurationError(f"a criterion must return finite scores, but {name} returns others for a {what}")
    return scores
