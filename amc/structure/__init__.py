"""The structure of a network: layers, channel groups, costs as functions of widths, and allocations."""

from amc.structure.allocation import KINDS, Allocation
from amc.structure.extents import CostTerm, Extent
from amc.structure.model_structure import (
    ChannelGroup,
    LayerSpec,
    ModelStructure,
    ModuleAttribute,
    TensorCut,
    TensorSpec,
)

__all__ = [
    "KINDS",
    "Allocation",
    "ChannelGroup",
    "CostTerm",
    "Extent",
    "LayerSpec",
    "ModelStructure",
    "ModuleAttribute",
    "TensorCut",
    "TensorSpec",
]
