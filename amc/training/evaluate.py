"""Scoring a network on a data split."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from amc.data.image_set import BatchSource
from amc.data.splits import DataRoles
from amc.errors import DataError, ModelError
from amc.problem.score import Score
from amc.runtime.call import inference, move
from amc.runtime.device import DeviceLike, autocast, device_of, resolve_device, resolve_dtype
from amc.runtime.layout import AnyLayout


def evaluate(
    model: nn.Module,
    data: BatchSource,
    *,
    batch_size: int = 250,
    device: DeviceLike | None = None,
    dtype: str | torch.dtype = "float32",
    reference: Tensor | None = None,
) -> Score:
    """Scores a network.

    Args:
        model: Maps `(N, C, H, W)` to logits `(N, classes)`; its training flags are restored afterwards.
        data: The split to score on.
        batch_size: Images at once.
        device: Where to compute; the network is moved there. Where the network is, if not given.
        dtype: `"float32"`, `"bfloat16"` (autocast), or `"auto"`: bfloat16 where the device gains from it.
        reference: The classes `(N,)` that the dense network assigns, to measure the agreement with it.

    Raises:
        DataError: If the split is empty or holds classes that the network has no output for.
        ModelError: If the network's output is no tensor of logits.
    """
    logits, targets = predict(model, data, batch_size=batch_size, device=device, dtype=dtype)
    return score_logits(logits, targets, reference)


def is_chance(accuracy: float, data: DataRoles) -> bool:
    """Tells whether a test accuracy, in percent, is within two standard errors of that of guessing, or below."""
    chance = 1 / max(1, data.num_classes)
    return chance < 1 and accuracy / 100 <= chance + 2 * math.sqrt(chance * (1 - chance) / len(data.test))


def score_logits(logits: Tensor, targets: Tensor, reference: Tensor | None = None) -> Score:
    """Computes the score of logits `(N, classes)` against the true classes `(N,)`; see `evaluate`.

    Raises:
        DataError: If there are no images, or classes beyond the logits.
    """
    if not len(targets):
        raise DataError("a split to score on must hold images; it is empty")
    if int(targets.max()) >= logits.shape[1]:
        raise DataError(
            f"the data has a class {int(targets.max())} but the network {logits.shape[1]} outputs; "
            "build the model with the data's number of classes"
        )
    if int(targets.min()) < 0:
        raise DataError(f"classes must be numbers from 0, not {int(targets.min())}; number them anew")
    predicted = logits.argmax(1)
    agreement = float("nan") if reference is None else _percent(predicted == reference.to(predicted.device))
    cross_entropy = float(functional.cross_entropy(logits.double(), targets))
    return Score(_percent(predicted == targets), cross_entropy, agreement, len(targets))


def predict(
    model: nn.Module,
    data: BatchSource,
    *,
    batch_size: int = 250,
    device: DeviceLike | None = None,
    dtype: str | torch.dtype = "float32",
) -> tuple[Tensor, Tensor]:
    """Runs a network over a split.

    Args:
        model: As for `evaluate`.
        data: As for `evaluate`.
        batch_size: As for `evaluate`.
        device: As for `evaluate`.
        dtype: As for `evaluate`.

    Returns:
        The logits `(N, classes)` in float32 and the true classes `(N,)`, both on the device.

    Raises:
        DataError: If the split is empty.
        ModelError: If the network's output is no tensor of logits.
    """
    place = device_of(model) if device is None else resolve_device(device)
    number_format = resolve_dtype(dtype, place)
    move(model, device=place)
    outputs, classes, run = [], [], AnyLayout(model)
    with inference(model), autocast(number_format, place):
        for images, targets in data.batches(batch_size, device=place, channels_last=True):
            logits = run(images)
            if not isinstance(logits, Tensor) or logits.dim() != 2:
                raise ModelError("a classification network must return logits (N, classes); inject your own evaluate")
            outputs.append(logits.float())
            classes.append(targets)
    if not outputs:
        raise DataError("a split to score on must hold images; it is empty")
    return torch.cat(outputs), torch.cat(classes)


def _percent(hits: Tensor) -> float:
    """Returns the share of true values in percent."""
    return 100.0 * int(hits.sum()) / len(hits)
