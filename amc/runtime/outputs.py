"""The main tensor among a network's outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from amc.errors import ModelError

_NAMES = ("logits", "out", "output", "prediction", "predictions")
"""Names under which networks return their main output: `transformers`, torchvision's segmentation, and others."""


def main_output(output: Any) -> Tensor:
    """Returns the main output of a network: the tensor, the first of a sequence, or the one of a known name.

    Args:
        output: A tensor, a sequence that begins with one, or a mapping or an object with the tensor under `logits`,
            `out`, `output` or `prediction`; a mapping with a single tensor has it under any name.

    Raises:
        ModelError: If it is nothing of the kind.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        named = next((output[name] for name in _NAMES if isinstance(output.get(name), Tensor)), None)
        tensors = [value for value in output.values() if isinstance(value, Tensor)]
        if named is not None or len(tensors) == 1:
            return tensors[0] if named is None else named
        raise _unfit(f"a {type(output).__name__} with {', '.join(map(str, output)) or 'nothing in it'}")
    if isinstance(output, Sequence) and len(output) and isinstance(output[0], Tensor):
        return output[0]
    for name in _NAMES:
        if isinstance(getattr(output, name, None), Tensor):
            tensor: Tensor = getattr(output, name)
            return tensor
    raise _unfit(type(output).__name__)


def _unfit(found: str) -> ModelError:
    return ModelError(
        f"a network must return a tensor, a tuple that begins with one, or a mapping with {', '.join(_NAMES[:3])}, "
        f"not {found}; for other outputs give evaluate and finetune of your own"
    )
