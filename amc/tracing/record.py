"""The record of a network while it is traced: the shadows of its activations, and the findings of the rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from amc.tracing.branches import BranchRecorder
from amc.tracing.entries import Canvas, Derived, Factor, LayerRecord, ParameterView, Producer, Step
from amc.tracing.shadow import Shadow
from amc.tracing.sums import SumRecorder
from amc.tracing.units import ChannelUnits, Labels
from amc.tracing.views import Views
from amc.tracing.zeros import Rehearsal

_POWERS = ("linalg_matrix_power", "matrix_power")
_PRODUCTS = ("tensordot", "inner", "linalg_multi_dot", "chain_matmul", "scaled_dot_product_attention")
_UNCOUNTED = frozenset({*_POWERS, *_PRODUCTS})
"""Functions of PyTorch that fvcore sees as one operator and counts as zero, though they run matrix products."""


@dataclass
class Trace:
    """Everything that the operators' rules record.

    Attributes:
        model: The network that is traced.
        units: The channel units.
        axis_labels: Labels along the axes of parameters and buffers.
        element_labels: Labels of the elements of parameters that take part in arithmetic.
        roles: `"write"`, `"read"` or `"follow"` for every axis in `axis_labels`.
        layers: Layers with weights by the name of the weight, in the order of execution.
        costs: FLOPs as `(coefficient, factors)`.
        steps: The operators that have run, as far as dependencies matter.
        measured: The memory of tensors that were asked for their shapes.
        attributes: Numbers that modules remember, as `(module, attribute, labels)`.
        in_code: Numbers in their code that may follow, likewise; None where the code is not read.
        counting: Whether layers and FLOPs are recorded (only in the first of several runs).
        modules: The modules that are running, by name, the innermost last.
        functions: The functions of PyTorch that are running, by name, the innermost last.
        arguments: The tensors that these functions were called with.
        norm_calls: How often each batch norm has run, by name.
        derived: What was computed from parameters alone, by the identity of the tensor.
        rehearsal: The same computations on numbers of which half are zero.
        users: The modules that were running when a parameter or buffer was used, by its name.
        views: Which tensors share memory.
        rows: How many rows were picked by values that layers have computed, and the memory of these, by the identity of
            what holds them.
        lengths: Numbers that tensors were made with along their channels: module and name.
        telling: How many operators had run when one costs something on such rows, and the memory of the values.
        asked: Tensors that were asked for their shape, by the running module, the last length and the size.
        canvases: Tensors that were made from sizes, or written into, by their memory.
        made: The widths of tensors that were made from sizes, (N, C), (L, N, C) or (N, C, H, W).
        sums: What the outputs of modules are added to.
        branches: Which operator reads what; None where no branches are looked for.
    """

    model: nn.Module
    units: ChannelUnits = field(default_factory=ChannelUnits)
    axis_labels: dict[tuple[str, int], Labels] = field(default_factory=dict)
    element_labels: dict[str, Labels] = field(default_factory=dict)
    roles: dict[tuple[str, int], str] = field(default_factory=dict)
    layers: dict[str, LayerRecord] = field(default_factory=dict)
    costs: list[tuple[int, tuple[Factor, ...]]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    measured: set[int] = field(default_factory=set)
    attributes: list[tuple[str, str, Labels]] = field(default_factory=list)
    in_code: list[tuple[str, str, Labels]] | None = None
    counting: bool = True
    modules: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    arguments: list[list[Tensor]] = field(default_factory=list)
    norm_calls: Counter[str] = field(default_factory=Counter)
    branches: BranchRecorder | None = None

    def __post_init__(self) -> None:
        """Indexes the parameters and buffers."""
        named = [*self.model.named_parameters(), *self.model.named_buffers()]
        self.tensors: dict[str, Tensor] = dict(named)
        self._names = {id(tensor): name for name, tensor in named}
        self._views: dict[int, ParameterView] = {}
        self._shadows: dict[int, Shadow] = {}
        self._producers: dict[int, Producer] = {}
        self._positions: dict[int, tuple[Labels, str]] = {}
        self._writers: dict[int, frozenset[str]] = {}
        self._alive: list[Tensor] = []
        self.layer_run: str | None = None
        self.derived: dict[int, Derived] = {}
        self.rehearsal = Rehearsal(self.tensors)
        self.views = Views(self.tensors)
        self.canvases: dict[int, Canvas] = {}
        self.made: set[int] = set()
        self.asked: dict[tuple[str, int, int], Tensor] = {}
        self.rows: dict[int, dict[int, frozenset[int]]] = {}
        self.lengths: set[tuple[str, str]] = set()
        self.telling: list[tuple[int, frozenset[int]]] = []
        self.all_producers: list[Producer] = []
        self.users: dict[str, set[str]] = {}
        self.sums = SumRecorder()

    @property
    def module(self) -> nn.Module:
        """The module that is running."""
        return self.model.get_submodule(self.modules[-1])

    @property
    def uncounted(self) -> bool:
        """Whether a function is running that fvcore counts as zero."""
        return not _UNCOUNTED.isdisjoint(self.functions)

    def called_with(self, *names: str) -> list[Tensor] | None:
        """Returns the tensors that the first running function of one of these names was called with, or None."""
        running = zip(self.functions, self.arguments, strict=True)
        return next((tensors for name, tensors in running if name in names), None)

    def forget_activations(self) -> None:
        """Releases the activations of a finished run."""
        self._shadows.clear()
        self._producers.clear()
        self._positions.clear()
        self._views.clear()
        self._writers.clear()
        self.derived.clear()
        self.rehearsal.forget()
        self._alive.clear()
        self.views.forget()
        self.canvases.clear()
        self.asked.clear()
        self.rows.clear()

    def view_of(self, tensor: Tensor) -> ParameterView | None:
        """Returns the view that a tensor is of a parameter or buffer, or None if it is an activation."""
        name = self._names.get(id(tensor))
        if name is not None:
            self.users.setdefault(name, set()).add(self.modules[-1] if self.modules else "")
            axes = tuple(range(tensor.dim()))
            return ParameterView(name, axes, (0,) * tensor.dim())
        return self._views.get(id(tensor))

    def set_view(self, tensor: Tensor, view: ParameterView) -> None:
        """Records that a tensor is a view of a parameter."""
        self._alive.append(tensor)
        self._views[id(tensor)] = view

    def shadow(self, tensor: Tensor) -> Shadow:
        """Returns the shadow of an activation or, element by element, of a parameter."""
        if id(tensor) in self._shadows:
            return self._shadows[id(tensor)].resolved(self.units)
        view = self.view_of(tensor)
        if view is None:
            return Shadow.neutral(tensor.shape)
        return Shadow(self._element_view(view, tensor), tuple(tensor.shape)).resolved(self.units)

    def _element_view(self, view: ParameterView, tensor: Tensor) -> Tensor:
        shape = self.tensors[view.name].shape
        if view.name not in self.element_labels:
            self.element_labels[view.name] = self.units.new(int(np.prod(shape))).reshape(tuple(shape))
        return view.shown(torch.from_numpy(self.element_labels[view.name]), tensor.shape)

    def set_shadow(self, tensor: Tensor, shadow: Shadow) -> None:
        """Gives an activation its shadow."""
        assert tuple(tensor.shape) == shadow.shape, (tensor.shape, shadow.shape)
        self._alive.append(tensor)
        self._views.pop(id(tensor), None)
        self._shadows[id(tensor)] = shadow

    def written_by(self, view: ParameterView, axis: int, length: int) -> Labels:
        """Returns the labels of the channels that a layer writes, making them at first use.

        Args:
            view: The layer's weight.
            axis: The view's axis along which the channels lie.
            length: Its length.
        """
        key = (view.name, view.axes[axis])
        if key not in self.axis_labels:
            self.axis_labels[key] = self.units.new(self.tensors[view.name].shape[view.axes[axis]])
        self._strengthen(key, "write")
        return self.axis_labels[key][view.offsets[axis] : view.offsets[axis] + length]

    def tie(self, view: ParameterView, axis: int, labels: Factor, role: str) -> None:
        """Makes an axis of a parameter follow channels.

        Args:
            view: The parameter.
            axis: The view's axis.
            labels: Labels of the channels along that axis; nothing happens where they do not vary.
            role: `"read"` or `"follow"`.
        """
        if isinstance(labels, int):
            return
        key = (view.name, view.axes[axis])
        start, whole = view.offsets[axis], self.tensors[view.name].shape[view.axes[axis]]
        if key not in self.axis_labels:
            self.axis_labels[key] = labels.copy() if len(labels) == whole else self.units.new(whole)
        self._strengthen(key, role)
        self.units.union(self.axis_labels[key][start : start + len(labels)], labels)

    def labels_of(self, view: ParameterView, axis: int, length: int) -> Labels:
        """Returns the labels along an axis of a parameter; new ones, which no layer writes, if nothing is known yet."""
        key = (view.name, view.axes[axis])
        if key not in self.axis_labels:
            self.axis_labels[key] = self.units.new(self.tensors[view.name].shape[view.axes[axis]])
            self._strengthen(key, "follow")
        return self.axis_labels[key][view.offsets[axis] : view.offsets[axis] + length]

    def _strengthen(self, key: tuple[str, int], role: str) -> None:
        """Notes the role of an axis; of several uses the strongest role stays."""
        order = ("follow", "read", "write")
        self.roles[key] = max(self.roles.get(key, "follow"), role, key=order.index)

    def follow(self, tensor: Tensor | None, labels: Factor) -> None:
        """Ties axis 0 of a parameter (a bias, a batch norm's statistics) to channels."""
        if tensor is None or isinstance(labels, int):
            return
        view = self.view_of(tensor)
        if view is None:
            self.units.union(self.shadow(tensor).labels(), labels)
        else:
            self.tie(view, 0, labels, "follow")

    def cost(self, coefficient: int, *factors: Factor) -> None:
        """Records FLOPs: the coefficient times the lengths of the axes."""
        if self.counting and not self.uncounted:
            self.costs.append((coefficient, factors))

    def cost_per_element(self, coefficient: int, shadow: Shadow) -> None:
        """Records FLOPs proportional to the number of elements of a tensor."""
        self.cost(coefficient, *[shadow.vector(axis) for axis in range(len(shadow.shape))])

    def attribute(self, module: str, name: str, labels: Factor) -> None:
        """Notes that a module remembers how many channels there are.

        Args:
            module: Name of the module.
            name: Name of its attribute; nothing happens if there is none.
            labels: Labels of the channels; those beyond the dense number are repetitions (of a batch).
        """
        remembered = getattr(self.model.get_submodule(module), name, None)
        size = remembered[0] if isinstance(remembered, tuple) and len(remembered) == 1 else remembered
        if isinstance(size, int) and not isinstance(labels, int) and len(labels) >= size:
            self.attributes.append((module, name, labels[:size]))

    def remember(self, module: str, name: str, labels: Factor) -> None:
        """Notes that a module remembers how long an axis is; `name` may be `"name[place]"`."""
        if not isinstance(labels, int):
            self.attributes.append((module, name, labels))

    def freeze_input(self, tensor: Tensor, reason: str) -> None:
        """Freezes the channels of an operator's input, and a parameter along all its axes."""
        view = self.view_of(tensor)
        if view is not None and id(tensor) not in self._shadows:
            for axis in range(tensor.dim()):
                self.units.freeze(self.written_by(view, axis, tensor.shape[axis]), reason)
        else:
            self.units.freeze(self.shadow(tensor).labels(), reason)

    def freeze_activation(self, tensor: Tensor, reason: str) -> None:
        """Freezes the channels of an operator's input if a layer may have computed it; constants are left alone."""
        if self.view_of(tensor) is None:
            self.units.freeze(self.shadow(tensor).labels(), reason)

    def ran(self, step: Step, outputs: Sequence[Tensor]) -> None:
        """Records an operator that has run, and keeps its outputs alive, so that their memory is not reused."""
        self.steps.append(step)
        self._alive += outputs

    def ask(self, tensor: Tensor) -> None:
        """Records that a tensor was asked for its shape."""
        self.asked[self.modules[-1], tensor.shape[-1:].numel(), tensor.numel()] = tensor

    def freeze_if_read(self, positions: Tensor, labels: Labels, reason: str) -> None:
        """Freezes channels once an operator reads a tensor that reveals their positions, or the network returns it.

        Args:
            positions: The tensor.
            labels: Labels of the channels.
            reason: Why they are then frozen.
        """
        self._positions[id(positions)] = (labels, reason)

    def note_uses(self, tensors: Sequence[Tensor]) -> None:
        """Counts the readers of layers' outputs, and freezes channels whose positions are read."""
        for tensor in tensors:
            if id(tensor) in self._positions:
                self.units.freeze(*self._positions[id(tensor)])
            if id(tensor) in self._producers:
                self._producers[id(tensor)].uses += 1

    def writers(self, tensor: Tensor) -> frozenset[str]:
        """Returns the layers, by their weights, whose outputs an activation is made of; none for constants."""
        return self._writers.get(id(tensor), frozenset())

    def pass_writers(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Notes which layers the outputs of an operator come from: itself if it is a layer, else those of its inputs.

        Args:
            inputs: What the operator has read.
            outputs: What it has returned.
        """
        passed = frozenset[str]().union(*(self.writers(tensor) for tensor in inputs))
        found = passed if self.layer_run is None else frozenset({self.layer_run})
        self.layer_run = None
        for tensor in outputs:
            self._writers[id(tensor)] = found

    def overwritten(self, tensor: Tensor) -> None:
        """Records that an operator has changed a tensor in place: it is no longer the output of a layer."""
        self._producers.pop(id(tensor), None)

    def produced(self, tensor: Tensor, producer: Producer) -> None:
        """Notes which layer an activation comes from."""
        self._producers[id(tensor)] = producer
        self.all_producers.append(producer)

    def producer(self, tensor: Tensor) -> Producer | None:
        """Returns which layer an activation comes from, if it comes straight from one."""
        return self._producers.get(id(tensor))
