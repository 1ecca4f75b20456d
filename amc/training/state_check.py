"""Checks that a training state from a file belongs to the training that is to use it."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from amc.errors import CheckpointError, cause_of
from amc.models.pickle_files import tensors_within
from amc.runtime.finite import all_finite
from amc.training.records import EpochRecord
from amc.utils.plain_json import as_type

_SCALARS = {"step", "mu_product", "eta", "mu"}
"""What optimisers of torch.optim keep as one number per parameter."""
_STATES = _SCALARS | {
    "momentum_buffer", "exp_avg", "exp_avg_sq", "exp_inf", "max_exp_avg_sq", "square_avg", "acc_delta", "sum",
    "grad_avg", "prev", "step_size", "ax",
}  # fmt: skip
"""All that they keep; the others have the parameter's shape."""
_NUMPY_WORDS = 624
"""32-bit words in the state of NumPy's generator; NumPy does not check the position itself."""


def check_state(state: Mapping[str, Any], own: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Checks a state before any of it is used.

    Args:
        state: What the file holds.
        own: The state of the training as it starts.
        optimizer: Its optimiser.

    Raises:
        CheckpointError: If a part is missing, has another shape or type than the training's own, or is not finite.
    """
    try:
        _check_weights(state, own)
        _check_momenta(state["optimizer"]["state"], optimizer)
        _check_generators(state, own)
        for record in [*([] if state["start"] is None else [state["start"]]), *state["history"]]:
            as_type(record, EpochRecord)
        if state["best"] is not None:
            _check_count(state["best"]["epoch"])
            _check_weights(state["best"], own)
        _check_unfinished(state.get("unfinished"), own)
        if "average" in own:
            _check_average(state["average"], own["average"])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise CheckpointError(
            f"a training state must be of the training that it is for, and is not: {cause_of(error)}; "
            "delete it to train from the start"
        ) from error


def _check_weights(state: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Checks the weights, and the state of the objective's terms."""
    weights, expected = state["model"], own["model"]
    for name in weights.keys() ^ expected.keys():
        raise ValueError(f"the weights {name!r} are missing, or too many")
    for name, tensor in expected.items():
        _check_form(weights[name], tensor, name)
        if all_finite(tensor):  # masks may hold infinite values
            _check_finite(weights[name], name)
    if len(state["objective"]) != len(own["objective"]):
        raise ValueError("it has another number of terms")
    for tensor in tensors_within(state["objective"]):
        _check_finite(tensor, "a term")


def _check_momenta(momenta: Mapping[int, Any], optimizer: torch.optim.Optimizer) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, entries in momenta.items():
        _check_count(index)
        for name, value in entries.items():
            if name not in _STATES:
                raise ValueError(f"the optimiser has no {name!r}")
            if name in _SCALARS:
                _check_scalar(value, name)
            elif value is not None:
                _check_like(value, parameters[index], "a momentum")


def _check_generators(state: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    if state["generator"].shape != own["generator"].shape or state["generator"].dtype != torch.uint8:
        raise ValueError("the state of the generator is of another form")
    states = state["global_generators"]
    _, key, position, *_ = states["numpy"]
    if tuple(key.shape) != (_NUMPY_WORDS,) or key.dtype != torch.int64:
        raise ValueError("the state of NumPy's generator is of another form")
    if type(position) is not int or not 0 <= position <= _NUMPY_WORDS:
        raise ValueError("the position of NumPy's generator must lie within its state")
    if not isinstance(states["cuda"], list | tuple):
        raise ValueError("the states of the accelerators' generators are of another form")
    random.Random().setstate(states["python"])  # throw-away generators, which raise on a bad state
    for found in (state["generator"], states["cpu"]):
        torch.Generator().set_state(found)


def _check_unfinished(unfinished: Any, own: Mapping[str, Any]) -> None:
    if unfinished is not None:
        _check_count(unfinished["steps"])
        _check_generators(unfinished["begin"], own)
        _check_like(unfinished["loss_sum"], torch.zeros(()), "the loss")


def _check_average(average: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    _check_count(average["steps"])
    for name, tensor in own["average"].items():
        _check_form(average["average"][name], tensor, name)
        if all_finite(tensor):
            _check_finite(average["average"][name], name)


def _check_scalar(value: Any, name: str) -> None:
    number = float(value)
    if not math.isfinite(number) or (name == "step" and number < 0):
        raise ValueError(f"{name!r} must be a finite number, and of steps not negative")


def _check_like(tensor: Any, own: Tensor, name: str) -> None:
    """Checks a tensor against one of the same shape and type, and that it is finite."""
    _check_form(tensor, own, name)
    _check_finite(tensor, name)


def _check_form(tensor: Any, own: Tensor, name: str) -> None:
    if not isinstance(tensor, Tensor) or tensor.shape != own.shape or tensor.dtype != own.dtype:
        raise ValueError(f"{name!r} must have shape {tuple(own.shape)} and type {own.dtype}")
    if _shares_memory_within(tensor):
        raise ValueError(f"{name!r} must have a place in memory for each of its elements, to be written to")


def _shares_memory_within(tensor: Tensor) -> bool:
    """Returns whether elements of a tensor lie in the same place, as `expand` leaves them."""
    reach = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride <= reach:
            return True
        reach += stride * (size - 1)
    return False


def _check_finite(tensor: Tensor, name: str) -> None:
    if (tensor.is_floating_point() or tensor.is_complex()) and not all_finite(tensor):
        raise ValueError(f"{name!r} holds NaN or infinite values")


def _check_count(value: Any) -> None:
    if type(value) is not int or value < 0:
        raise ValueError(f"a count must be a whole number, not {type(value).__name__}")
