"""What criteria may look at: the dense network's weights, and its behaviour on the calibration split."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from zlib import crc32

import torch
from torch import Tensor, nn

from amc.data.tasks import CLASSIFICATION, TaskType
from amc.errors import ConfigurationError
from amc.pruning.criteria.gradient_statistics import GradientStatistics, gather_gradients
from amc.pruning.criteria.gram_passes import GramPasses
from amc.pruning.criteria.input_statistics import InputStatistics, gather_inputs
from amc.pruning.criteria.output_sensitivity import OutputSensitivity, gather_sensitivities
from amc.pruning.regression.bare_weights import is_bare
from amc.pruning.regression.elimination import Elimination, Regression, eliminate
from amc.pruning.regression.regressions import ReadCut, group_regressions, read_cuts
from amc.pruning.regression.row_equations import output_importance
from amc.pruning.regression.statistics import Gram, SamplingOptions
from amc.structure import ChannelGroup, LayerSpec, ModelStructure

ACTIVATIONS = "activations"
"""The need for statistics of what layers read: calibration images."""
GRAMS = "grams"
"""The need for second moments of what layers read: calibration images."""
GRADIENTS = "gradients"
"""The need for gradients of the loss: calibration images with labels."""
Needs = frozenset[str]


@dataclass(frozen=True, kw_only=True)
class EvidenceOptions:
    """How evidence is gathered.

    Attributes:
        ridge: Ridge of the refit, relative to the mean of the Gram matrix's diagonal; features per row are added.
        gram_memory: Bound on the Gram matrices held at once, in bytes; beyond it, the calibration images are shown
            again for the next groups. A single reader's matrix may exceed it.
        scale_outputs: Whether a reader's outputs count by the scale of the batch norm behind it.
        minibatch: Images in a minibatch, for criteria that average over the gradients of minibatches.
        sampling: How much of the calibration images enters the Gram matrices; its seed is that of everything drawn.
    """

    ridge: float = 1e-3
    gram_memory: int = 1 << 30
    scale_outputs: bool = True
    minibatch: int = 50
    sampling: SamplingOptions = field(default_factory=SamplingOptions)


class Evidence:
    """The evidence about a dense network; each kind is gathered once, when it is first needed.

    Gram matrices may not all fit into memory: groups, and layers, should be asked for in the order of the structure.
    """

    def __init__(
        self,
        model: nn.Module,
        structure: ModelStructure,
        batches: Sequence[Tensor] = (),
        labels: Sequence[Tensor] = (),
        options: EvidenceOptions | None = None,
        *,
        task: TaskType = CLASSIFICATION,
        widths: Mapping[str, Collection[int]] | None = None,
        after_batch: Callable[[], object] = lambda: None,
    ) -> None:
        """Gathers nothing yet.

        Args:
            model: The dense network, on the device of the batches; it is not changed.
            structure: Its structure.
            batches: Normalised calibration images, each `(N, C, H, W)`; none if criteria look at weights alone.
            labels: Their targets, each `(N, ...)`, such as classes `(N,)`; none if no criterion looks at gradients.
            options: How to gather.
            task: What the network is trained for; its loss is what gradients are taken of.
            widths: By the group's name, the widths at which `eliminate` notes refitted weights.
            after_batch: Called after each batch of each pass; see `passes`.
        """
        self.model, self.structure = model, structure
        self.options = options or EvidenceOptions()
        self._batches, self._labels, self._task = batches, labels, task
        self._widths, self._after_batch = widths or {}, after_batch
        self._greedy: tuple[str, Elimination] | None = None

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """The network's parameters and buffers by name, detached."""
        named = [*self.model.named_parameters(remove_duplicate=False), *self.model.named_buffers()]
        return {name: tensor.detach() for name, tensor in named}

    def generator(self, name: str) -> torch.Generator:
        """Returns a source of randomness that depends on the seed and on the name of a group or layer alone."""
        return torch.Generator().manual_seed(self.options.sampling.seed * 1_000_003 + crc32(name.encode()))

    def passes(self, needs: Needs) -> int:
        """Returns how many passes over the images it takes to gather some kinds of evidence for all groups."""
        once = len(needs & {ACTIVATIONS, GRADIENTS})
        return once + (self._group_grams.passes if GRAMS in needs else 0)

    def inputs(self, layer: str) -> InputStatistics | None:
        """Returns what a layer reads; None if it is not run as a convolution or a linear layer.

        Raises:
            ConfigurationError: If there are no calibration images.
        """
        return self._inputs.get(layer)

    def gram(self, layer: str) -> Gram | None:
        """Returns the second moments of what a layer reads; None if it is no product of a whole weight with its input.

        Raises:
            ConfigurationError: If there are no calibration images.
        """
        return self._layer_grams.get(self._layer_places[layer]).get(layer)

    def importance(self, layer: LayerSpec) -> Tensor:
        """Returns what a squared error of each output of a layer counts, `(O,)`, float64.

        It is what the error does to the network's output; where that is not known, as without calibration images, the
        squared scale of the batch norm behind the layer.
        """
        if not self.knows_importance(layer):
            return output_importance(self.model, layer)
        return self.sensitivities[layer.name].importance

    def knows_importance(self, layer: LayerSpec) -> bool:
        """Returns whether it is known what an error of a layer's outputs does to the network's output."""
        known = self.sensitivities.get(layer.name)
        return known is not None and len(known.importance) == len(self.tensors[layer.weight])

    def energy(self, layer: str) -> float | None:
        """Returns what the loss of a whole layer does to the network's output; None if nothing is known of any layer.

        It is the mean of the others where it is not known of this one, as no module returns the layer's outputs.
        """
        known = {name: sensitivity.energy for name, sensitivity in self.sensitivities.items()}
        return known.get(layer, sum(known.values()) / len(known)) if known else None

    @cached_property
    def sensitivities(self) -> Mapping[str, OutputSensitivity]:
        """The effect of errors in layers' outputs on the network's output, by layer; empty without images."""
        names = [layer.name for layer in self.structure.layers]
        centred, seed = self._task.assigns_classes, self.options.sampling.seed
        return gather_sensitivities(self.model, names, self._batches, centred=centred, seed=seed)

    @cached_property
    def gradients(self) -> GradientStatistics:
        """The gradients of the loss on the calibration images.

        Raises:
            ConfigurationError: If there are no calibration images, or no labels.
        """
        batches = self._images(GRADIENTS)
        if not self._labels:
            raise ConfigurationError("gradients need the calibration images' labels, and none were given; give labels")
        groups = [self.structure.groups[index] for index in self.structure.prunable]
        weights, buffers = {layer.weight for layer in self.structure.layers}, dict(self.model.named_buffers())
        others = {name: buffer for name, buffer in buffers.items() if name in weights}
        how = (self._task, self.options.minibatch, self._after_batch, others)
        return gather_gradients(self.model, groups, batches, self._labels, *how)

    def regressions(self, group: ChannelGroup) -> list[tuple[ReadCut, list[Regression]]]:
        """Returns the regressions by which layers read a group: for each reader, one for each of its groups.

        Raises:
            ConfigurationError: If there are no calibration images.
        """
        grams = self._group_grams.get(self._group_places[group.name])
        scaled = self.options.scale_outputs
        return [
            (cut, group_regressions(self.model, cut, grams[cut.layer], scaled))
            for cut in read_cuts(self.model, self.structure, group)
            if cut.layer in grams
        ]

    def eliminate(self, group: ChannelGroup, order: Tensor | None = None) -> Elimination | None:
        """Removes the channels of a group one by one, and refits its readers at the widths that are asked for.

        The last greedy outcome is kept: asking for the same order again costs nothing.

        Args:
            group: The group.
            order: The order in which the channels go; None for the greedy one.

        Returns:
            The order, the errors at every width and the refitted weights; None if the group's readers are not run as
            convolutions or linear layers.

        Raises:
            ConfigurationError: If there are no calibration images.
        """
        if self._greedy is not None and self._greedy[0] == group.name:
            found = self._greedy[1]
            if order is None or torch.equal(found.order, order):
                return found
        problems = [problem for _, by_reader in self.regressions(group) for problem in by_reader]
        if not problems:
            return None
        widths = frozenset(self._widths.get(group.name, ()))
        found = eliminate(problems, widths=widths, order=order, ridge=self.options.ridge)
        if order is None:
            self._greedy = (group.name, found)
        return found

    @cached_property
    def _inputs(self) -> Mapping[str, InputStatistics]:
        layers = [layer.name for layer in self.structure.layers]
        return gather_inputs(self.model, layers, self._images(ACTIVATIONS), self._after_batch)

    @cached_property
    def _group_grams(self) -> GramPasses:
        """Gram matrices by prunable group: those of its readers are needed together."""
        groups = [self.structure.groups[index] for index in self.structure.prunable]
        return self._grams([[cut.layer for cut in read_cuts(self.model, self.structure, group)] for group in groups])

    @cached_property
    def _layer_grams(self) -> GramPasses:
        """Gram matrices by layer."""
        layers = self.structure.layers
        bare = {layer.name: self.tensors[layer.weight] for layer in layers if is_bare(self.model, layer)}
        return self._grams([[layer.name] for layer in layers], bare)

    def _grams(self, sets: Sequence[Sequence[str]], bare: Mapping[str, Tensor] | None = None) -> GramPasses:
        options = self.options
        batches = self._images(GRAMS)
        how = (options.sampling, options.gram_memory, self._after_batch)
        return GramPasses(self.model, sets, batches, *how, bare or {})

    @cached_property
    def _group_places(self) -> Mapping[str, int]:
        groups, prunable = self.structure.groups, self.structure.prunable
        return {groups[index].name: place for place, index in enumerate(prunable)}

    @cached_property
    def _layer_places(self) -> Mapping[str, int]:
        return {layer.name: place for place, layer in enumerate(self.structure.layers)}

    def _images(self, kind: str) -> Sequence[Tensor]:
        """Returns the calibration images.

        Raises:
            ConfigurationError: If there are none.
        """
        if not self._batches:
            raise ConfigurationError(
                f"{kind} need calibration images and none were given; give some, or choose a criterion that looks at "
                "weights alone, without refit"
            )
        return self._batches
