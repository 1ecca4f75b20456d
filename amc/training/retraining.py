"""How Han et al. retrain a pruned network: some layers at a time, with less dropout where fewer weights are left."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.hooks import RemovableHandle

from amc.errors import ConfigurationError
from amc.training.terms import Term, Training

FROZEN: dict[str, Callable[[nn.Module], bool]] = {
    "convolutions": lambda module: not isinstance(module, nn.Linear),
    "linear": lambda module: isinstance(module, nn.Linear),
}
"""By name, the modules whose own parameters are frozen."""


class Frozen(Term):
    """Freezes some layers for a training (Han et al. 2015, arXiv:1506.02626, section 3.4).

    The paper retrains the fully connected layers of a pruned network with the convolutions fixed, and then the other
    way round, so that gradients need not pass through all of a deep network. Batch norms count as convolutions; frozen
    ones keep their statistics too.
    """

    def __init__(self, name: str) -> None:
        """Takes what to freeze: a name in `FROZEN`."""
        self._name = name
        self._parameters: list[nn.Parameter] = []
        self._handles: list[RemovableHandle] = []

    def attach(self, training: Training) -> None:
        """Freezes the layers.

        Raises:
            ConfigurationError: If nothing is left to train.
        """
        frozen = [module for module in training.model.modules() if FROZEN[self._name](module)]
        own = {parameter for module in frozen for parameter in module.parameters(recurse=False)}
        trained = [parameter for parameter in training.model.parameters() if parameter.requires_grad]
        if own.issuperset(trained):
            raise ConfigurationError(
                f"finetune.freeze {self._name} leaves nothing to train in this network; choose another, or none"
            )
        self._parameters = [parameter for parameter in trained if parameter in own]
        for parameter in self._parameters:
            parameter.requires_grad_(False)
        norms = (module for module in frozen if isinstance(module, _BatchNorm))
        self._handles = [norm.register_forward_pre_hook(_evaluate) for norm in norms]

    def detach(self) -> None:
        """Unfreezes the layers."""
        for parameter in self._parameters:
            parameter.requires_grad_(True)
        for handle in self._handles:
            handle.remove()
        self._parameters, self._handles = [], []


class PrunedDropout(Term):
    """Reduces dropout where pruning has left fewer weights (Han et al. 2015, arXiv:1506.02626, section 3.2, Eq. 2).

    The ratio of a dropout becomes `D_o * sqrt(C_r / C_o)`, where C are the connections of the layer that reads its
    output, now and in the dense network. Deviation: that layer is found by the order of the modules.
    """

    def __init__(self, dense: nn.Module | None) -> None:
        """Takes the dense network; without it a layer's own weights, zeros included, count as the dense ones."""
        self._dense = dense
        self._before: dict[_DropoutNd, float] = {}

    def attach(self, training: Training) -> None:
        """Sets the ratios."""
        for dropout, name in _readers(training.model).items():
            weight = _weight(training.model, name)
            dense = weight if self._dense is None else _weight(self._dense, name)
            self._before[dropout] = dropout.p
            dropout.p = pruned_ratio(dropout.p, int(weight.count_nonzero()), dense.numel())

    def detach(self) -> None:
        """Sets the ratios back."""
        for dropout, ratio in self._before.items():
            dropout.p = ratio
        self._before = {}


def check_dropout(model: nn.Module) -> None:
    """Rejects `PrunedDropout` for a network that drops nothing.

    Raises:
        ConfigurationError: If no dropout layer has a ratio above 0.
    """
    if not any(dropout.p for dropout in _readers(model)):
        raise ConfigurationError(
            "finetune.dropout pruned needs a dropout layer with a ratio above 0, and the network has none; choose same"
        )


def pruned_ratio(dropout: float, left: int, dense: int) -> float:
    """Returns the dropout ratio of a pruned layer.

    Args:
        dropout: That of the dense layer.
        left: Connections of the layer now.
        dense: Connections of the dense layer.
    """
    return dropout * math.sqrt(left / dense) if dense else dropout


def _readers(model: nn.Module) -> dict[_DropoutNd, str]:
    """Returns, for each dropout, the name of the layer after it; of the layer before it if there is none after."""
    found: dict[_DropoutNd, str] = {}
    waiting: list[_DropoutNd] = []
    last = ""
    for name, module in model.named_modules():
        if isinstance(module, _DropoutNd):
            waiting.append(module)
        elif isinstance(weight := getattr(module, "weight", None), Tensor) and weight.dim() > 1:
            found |= dict.fromkeys(waiting, name)
            waiting, last = [], name
    return found | (dict.fromkeys(waiting, last) if last else {})


def _weight(model: nn.Module, name: str) -> Tensor:
    weight = model.get_submodule(name).weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def _evaluate(module: nn.Module, inputs: Any) -> None:
    """Makes a norm use its statistics without updating them."""
    module.eval()
