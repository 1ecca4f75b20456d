"""Networks of any widths for profiling: cut copies, and ONNX files of them without weights."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from amc.errors import ExportError
from amc.runtime.call import first_line
from amc.runtime.quiet import quiet
from amc.structure import ModelStructure
from amc.structure.slicing import cut

_OPSET = 17
_FEW = 256
"""Tensors up to this many elements stay in the file: biases of norms, shapes, constants."""


def network_with(model: nn.Module, structure: ModelStructure, widths: Mapping[str, int]) -> nn.Module:
    """Returns a copy of a network in which groups keep their first channels; any others would be as fast.

    Args:
        model: The dense network.
        structure: Its structure.
        widths: Channels to keep by the name of the group; all others stay whole.
    """
    places = {group.name: index for index, group in enumerate(structure.groups)}
    sizes = {group.name: group.channels for group in structure.groups}
    twin = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    kept = {places[name]: torch.arange(width) for name, width in widths.items() if width < sizes[name]}
    if kept:
        cut(twin, structure, kept)
    return twin


def onnx_bytes(model: nn.Module, example: Any, *, weights: bool = False) -> bytes:
    """Returns a network as an ONNX graph for inputs of the example's shape.

    Args:
        model: The network, on the CPU.
        example: One input, on the CPU.
        weights: Whether to keep the weights. Otherwise onnxruntime creates constants when it opens the graph: this is
            as fast, and the file stays small.

    Raises:
        ExportError: If PyTorch cannot export the network.
    """
    buffer = io.BytesIO()
    arguments = (example,) if isinstance(example, torch.Tensor) else _positional(example)
    try:
        with quiet(), torch.no_grad():
            # The older exporter is ten times as fast, and a fixed shape is enough here.
            torch.onnx.export(model, arguments, buffer, dynamo=False, opset_version=_OPSET)  # type: ignore[arg-type]
    except Exception as error:  # the exporter has no exception class of its own
        raise ExportError(
            f"the network must be exportable to ONNX to be timed in onnxruntime: {first_line(error)}; "
            "choose --engine torch"
        ) from error
    return buffer.getvalue() if weights else _without_weights(buffer.getvalue())


def on_cpu(example: Any) -> Any:
    """Returns an example input on the CPU."""
    return tree_map(lambda item: item.cpu() if isinstance(item, torch.Tensor) else item, example)


def _positional(example: Any) -> tuple[Any, ...]:
    """Returns the arguments of an example for the exporter: keywords go into a mapping at the end."""
    return ({**example},) if isinstance(example, Mapping) else tuple(example)


def _without_weights(content: bytes) -> bytes:
    """Replaces large weights of an ONNX graph by constants, small enough that activations stay finite."""
    import numpy
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_model_from_string(content)
    graph, nodes, left = model.graph, [], []
    for tensor in graph.initializer:
        size = int(numpy.prod(tensor.dims, dtype=numpy.int64)) if tensor.dims else 1
        if size <= _FEW or tensor.data_type != onnx.TensorProto.FLOAT:
            left.append(tensor)
            continue
        shape = f"{tensor.name}.shape"
        left.append(numpy_helper.from_array(numpy.array(tensor.dims, dtype=numpy.int64), shape))
        fan_in = max(1, size // max(tensor.dims))
        value = helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [1.0 / fan_in])
        nodes.append(helper.make_node("ConstantOfShape", [shape], [tensor.name], value=value))
    del graph.initializer[:]
    graph.initializer.extend(left)
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    lean: bytes = model.SerializeToString()
    return lean
