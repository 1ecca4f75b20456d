"""Distillation of features: the inputs of the smaller network's layers are kept close to those of the dense network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from amc.runtime.call import inference
from amc.runtime.collectives import ALONE, Collectives
from amc.runtime.hooks import hooked

_OF_EACH_SHAPE = 4
"""How many features of one shape are compared; more of them cost time and add little."""


class FeatureDistillation:
    """Compares two networks where pruning has kept all channels: mostly along residual streams.

    These are hints (FitNets, Romero et al. 2015, arXiv:1412.6550, section 2), but without the regressor, since a pruned
    network has features of the dense network's shape. The input of a convolution or a linear layer is a feature if it
    has the same shape in both networks. Of those of one shape a few are compared, evenly spread and including the last.

    Attributes:
        names: The layers whose inputs are compared.
        collectives: What the processes exchange that have parts of one batch.
    """

    def __init__(self, model: nn.Module, teacher: nn.Module, images: Tensor) -> None:
        """Chooses the features; shapes alone decide.

        Args:
            model: The smaller network.
            teacher: The dense network.
            images: A few inputs, `(N, C, H, W)`.
        """
        self._model, self._device = model, images.device
        self.collectives: Collectives = ALONE
        seen, readers = [], [_readers(network) for network in (model, teacher)]
        for network, layers in zip((model, teacher), readers, strict=True):
            with inference(network), _inputs_of(layers) as inputs:
                network(images)
            seen.append({name: feature for name, feature in inputs.items() if feature is not images})
        by_shape: defaultdict[torch.Size, list[str]] = defaultdict(list)
        for name, feature in seen[0].items():
            if name in seen[1] and seen[1][name].shape == feature.shape:
                by_shape[feature.shape].append(name)
        self.names = tuple(name for names in by_shape.values() for name in _spread(names))
        self._networks = [{name: layers[name] for name in self.names} for layers in readers]
        self._seen: list[dict[str, Tensor]] = []

    @contextmanager
    def watching(self, *, only_in_training: bool = False) -> Iterator[None]:
        """Remembers the features of both networks as they run.

        Args:
            only_in_training: Whether to ignore passes in which the smaller network is in evaluation mode.
        """
        watches = (lambda: self._model.training) if only_in_training else (lambda: True)
        student, teacher = self._networks
        with _inputs_of(student, watches) as features, _inputs_of(teacher, watches) as wanted:
            self._seen = [features, wanted]
            yield

    def loss(self) -> Tensor:
        """Returns the mean over the features of ||f - f'||^2 / ||f'||^2, where f' is the dense network's; a scalar.

        Features that a network leaves out in training (skipped blocks, dropped tokens) do not count. The remembered
        features are released.
        """
        features, wanted = ({**seen} for seen in self._seen)
        for seen in self._seen:
            seen.clear()
        names = [name for name in self.names if name in features and features[name].shape == wanted[name].shape]
        scales = self._scales({name: wanted[name].detach() for name in names})
        errors = [
            (features[name].float() - wanted[name].detach().float()).square().mean() / scales[name].clamp_min(1e-12)
            for name in names
        ]
        return torch.stack(errors).mean() if errors else torch.zeros(())

    def _scales(self, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the mean square of each of the dense network's features over the whole batch."""
        own = {name: feature.float().square().mean() for name, feature in wanted.items()}
        if self.collectives.size == 1 or not self.names:
            return own
        # Processes may have left different blocks out: each names all features, and which of them it has seen.
        zero = torch.zeros((), device=self._device)
        sums = torch.stack([own.get(name, zero) for name in self.names])
        seen = torch.stack([zero + (name in own) for name in self.names])
        total, count = self.collectives.total(torch.stack([sums, seen]))
        return dict(zip(self.names, total / count.clamp_min(1), strict=True))


def _readers(network: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in network.named_modules() if isinstance(module, (_ConvNd, nn.Linear))}


@contextmanager
def _inputs_of(
    modules: Mapping[str, nn.Module], watches: Callable[[], bool] = lambda: True
) -> Iterator[dict[str, Tensor]]:
    """Collects what modules read while `watches` is true, by name in the order of execution; of calls the last."""
    seen: dict[str, Tensor] = {}

    def remember(name: str, inputs: tuple[object, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor) and watches():
            seen[name] = inputs[0]

    handles = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: remember(name, inputs))
        for name, module in modules.items()
    ]
    with hooked(handles):
        yield seen


def _spread(names: list[str]) -> list[str]:
    """Returns a few of the names, evenly spread and including the last."""
    count = min(len(names), _OF_EACH_SHAPE)
    return [names[(index + 1) * len(names) // count - 1] for index in range(count)]
