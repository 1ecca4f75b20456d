"""Networks by name, and weights files."""

from __future__ import annotations

from amc.models.factory import create_model, example_input_shape, is_own_code, model_names
from amc.models.weights import check_finite, load_weights, read_state_dict

__all__ = [
    "check_finite",
    "create_model",
    "example_input_shape",
    "is_own_code",
    "load_weights",
    "model_names",
    "read_state_dict",
]
