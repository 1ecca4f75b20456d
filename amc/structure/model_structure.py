"""The frozen description of a network: names and integers, no modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from amc.structure.extents import CostTerm, Extent
from amc.structure.residual_blocks import ResidualBlock
from amc.structure.residual_sums import ResidualSum
from amc.structure.weight_axes import OUTPUTS_FIRST, WeightAxes


@dataclass(frozen=True)
class TensorCut:
    """How a channel group cuts one tensor.

    Attributes:
        tensor: Name of the parameter or buffer, as in the network's `state_dict`.
        axis: The axis that is cut.
        positions: For every channel of the group, the positions on that axis that go with it; never empty.
        role: `"write"` where the axis produces the channels (a convolution's filters and its bias), `"read"` where
            it consumes them (the next layer's input channels), `"follow"` for tensors that follow along (batch norm,
            layer scale, position embeddings).
    """

    tensor: str
    axis: int
    positions: tuple[tuple[int, ...], ...]
    role: str


@dataclass(frozen=True)
class ChannelGroup:
    """Channel dimensions that must be cut together: one decision, one action.

    Attributes:
        name: Name of the first layer that writes the channels.
        channels: How many channels the dense network has.
        cuts: Every tensor that loses positions when a channel goes.
        writers: Names of the layers that write the channels.
        readers: Names of the layers whose weights read the channels.
        residual: Whether the channels are summed from several writers (a residual stream).
        normalised: Whether a statistic over all of the channels is taken (layer norm, group norm), so that removing
            some changes what the others contribute.
        reason: Why the group must be left alone; None where it may be cut.
        block: Where this is no group of channels but a residual block, which stays (1 channel) or is dropped (0): what
            is dropped. It cuts no tensors, and its writers are the layers in it.
    """

    name: str
    channels: int
    cuts: tuple[TensorCut, ...]
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    residual: bool = False
    normalised: bool = False
    reason: str | None = None
    block: ResidualBlock | None = None

    @property
    def prunable(self) -> bool:
        """Whether the group may be cut."""
        return self.reason is None and self.block is None


@dataclass(frozen=True)
class ModuleAttribute:
    """A number that a module remembers and that must follow the widths, such as a convolution's `groups`.

    Attributes:
        module: Name of the module.
        attribute: Name of its attribute; `"name[place]"` for one element of a tuple or list, `"name.field"` for
            a number in an object or a dictionary, `"forward()[2]=400"` for one in the code.
        value: The number as a function of the widths of all groups; set as `(value,)` where the module holds a tuple
            of one element.
    """

    module: str
    attribute: str
    value: Extent


@dataclass(frozen=True)
class LayerSpec:
    """One layer with a weight, in the order of execution.

    Attributes:
        name: Name of the module that holds the weight, which is `f"{name}.weight"` unless `weight` says otherwise; of a
            module with several weights of its own, such as an LSTM, the name of the weight.
        kind: `"conv"`, `"depthwise"` (one input channel a filter), `"linear"`, `"attention"` (parts of the weight are
            used on their own), `"embedding"` (a look-up: no FLOPs, and it reads token numbers); `"block"` stands for
            a whole residual block, where a decision is about one.
        weight: Name of the weight, as in the `state_dict`.
        weight_shape: Shape of the weight, for example `(n, c / groups, k, k)`.
        in_channels: Channels read.
        out_channels: Channels written.
        kernel_size: Height and width of the kernel, (1, 1) for linear layers.
        stride: Stride in height and width, (1, 1) for linear layers.
        input_size: Height and width of the input, (1, 1) for linear layers on vectors; for sequences (length, 1).
        calls: How often one forward pass runs the layer.
        flops: FLOPs of the dense layer (one fused multiply-add is one), for one example input.
        params: Parameters of the dense layer, bias included.
        writes: Index in `ModelStructure.groups` of the group whose channels it writes, or None.
        reads: Indices in `ModelStructure.groups` of the groups whose channels it reads.
        batch_norm: Name of the batch norm that alone reads its output, or None.
        is_used_evenly: Whether one forward pass multiplies every weight equally often.
        is_parameter: Whether the weight counts among the parameters; a buffer does not.
        is_saved: Whether the `state_dict` holds the weight; it leaves out buffers that are not persistent.
        keeps_zeros: Whether zeros of the weight are zeros of what the layer multiplies by. They are not where the
            network computes that from the weight, as with weight standardisation.
        axes: Which axes of the weight are inputs, and which are places of the kernel.
    """

    name: str
    kind: str
    weight: str
    weight_shape: tuple[int, ...]
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    input_size: tuple[int, int]
    calls: int
    flops: int
    params: int
    writes: int | None
    reads: tuple[int, ...]
    batch_norm: str | None = None
    is_used_evenly: bool = True
    is_parameter: bool = True
    is_saved: bool = True
    keeps_zeros: bool = True
    axes: WeightAxes = OUTPUTS_FIRST

    @property
    def matrix_shape(self) -> tuple[int, ...]:
        """Shape of the weight as a matrix of outputs by inputs for each place of the kernel."""
        return self.axes.matrix_shape(self.weight_shape)

    @property
    def owner(self) -> str:
        """Name of the module that holds the weight; the network's own parameters stand for themselves."""
        return owner_of(self.weight)

    @property
    def names(self) -> tuple[str, ...]:
        """By which names rules may mean the layer: its own, and that of the module that holds its weight."""
        return tuple(dict.fromkeys([self.name, self.owner]))


def owner_of(tensor: str) -> str:
    """Returns the module that holds a tensor; the network's own parameters stand for themselves."""
    return tensor.rpartition(".")[0] or tensor


@dataclass(frozen=True)
class TensorSpec:
    """A tensor as a file holds it.

    Attributes:
        name: Its name in the `state_dict`; of a tensor that is shared the first of its names.
        dtype: Its number format, such as `"float32"`.
        axes: Length of every axis as a function of the widths of all groups.
        aliases: The other names of a tensor that is shared.
        blocks: Indices of the groups that are blocks with which it goes.
    """

    name: str
    dtype: str
    axes: tuple[Extent, ...]
    aliases: tuple[str, ...] = ()
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True)
class ModelStructure:
    """What search, surgery, saving and loading need to know of a network.

    Attributes:
        layers: The layers with weights, in the order of execution.
        groups: The channel groups, in the order of execution, prunable or not; behind them residual blocks, if they
            were looked for.
        flops_terms: FLOPs as fvcore counts them, as a function of the widths of ALL groups, by index in `groups`.
        params_terms: Number of parameters, as a function of the widths of all groups.
        attributes: Numbers that modules remember and that follow the widths.
        sums: Sums that layers can set right when they are refit, in the order of the layers.
        tensors: What a file of the network holds, by rising name.
        candidates: Numbers in the code that may follow the widths; none once a trial has decided which do.
        not_run: Names of layers that the example did not run, neither in evaluation nor in training mode: nothing is
            known of them, and they stay whole.
    """

    layers: tuple[LayerSpec, ...]
    groups: tuple[ChannelGroup, ...]
    flops_terms: tuple[CostTerm, ...]
    params_terms: tuple[CostTerm, ...]
    attributes: tuple[ModuleAttribute, ...] = ()
    sums: tuple[ResidualSum, ...] = ()
    tensors: tuple[TensorSpec, ...] = ()
    candidates: tuple[ModuleAttribute, ...] = ()
    not_run: tuple[str, ...] = ()

    @cached_property
    def prunable(self) -> tuple[int, ...]:
        """Indices of the groups of channels that may be cut, in the order of execution: one decision each."""
        return tuple(index for index, group in enumerate(self.groups) if group.prunable)

    @cached_property
    def blocks(self) -> tuple[int, ...]:
        """Indices of the residual blocks that may be dropped, in the order of execution."""
        return tuple(index for index, group in enumerate(self.groups) if group.block is not None)

    def layers_of(self, index: int) -> tuple[LayerSpec, ...]:
        """Returns the layers that write the channels of a group, or that go with a block."""
        group = self.groups[index]
        if group.block is not None:
            return tuple(layer for layer in self.layers if layer.owner in group.writers)
        return tuple(layer for layer in self.layers if layer.writes == index)

    def dropped(self, widths: Sequence[int]) -> dict[str, int]:
        """Returns the modules that go with dropped blocks, by name; see `ResidualBlock.modules`.

        Args:
            widths: The width of every group.
        """
        found: dict[str, int] = {}
        for index in self.blocks:
            block = self.groups[index].block
            if block is not None and not widths[index]:
                found.update(block.modules)
        return found

    @cached_property
    def dense_widths(self) -> tuple[int, ...]:
        """Channels of every group in the dense network."""
        return tuple(group.channels for group in self.groups)

    @cached_property
    def dense_flops(self) -> int:
        """FLOPs of the dense network for the example input."""
        return sum(term.cost(self.dense_widths) for term in self.flops_terms)

    @cached_property
    def dense_params(self) -> int:
        """Parameters of the dense network."""
        return sum(term.cost(self.dense_widths) for term in self.params_terms)
