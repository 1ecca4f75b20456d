"""Real surgery on a network: see `amc.structure.slicing`, which search, saving and loading share."""

from amc.structure.slicing import attribute_values, cut, set_attributes, set_tensors, slice_tensor

__all__ = ["attribute_values", "cut", "set_attributes", "set_tensors", "slice_tensor"]
