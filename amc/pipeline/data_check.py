"""Checks, before work starts, that a network and its data fit each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from amc.data import DataRoles, ImageSet, StreamedImages
from amc.data.dataset_source import DatasetSource
from amc.errors import DataError
from amc.runtime import device_of
from amc.runtime.call import failure_of, first_line, inference
from amc.runtime.finite import all_finite
from amc.runtime.outputs import main_output

_FEW = 8  # masks that are compared with the network's output
_MANY = 256  # items of a data set that are read at once


def check_finite(data: DataRoles | None) -> None:
    """Rejects NaN and infinite values in data that is held in memory: all figures would be NaN.

    Raises:
        DataError: If there are some.
    """
    for role in ("train", "calibration", "search", "test"):
        split = getattr(data, role, None)
        if not isinstance(split, ImageSet):
            continue
        for kind, values in (("inputs", split.images), ("targets", split.targets)):
            if not values.is_floating_point() or all_finite(values):
                continue
            finite = values.reshape(len(values), -1).isfinite().all(dim=1)
            wrong = finite.logical_not().nonzero().flatten().tolist()
            if wrong:
                raise DataError(
                    f"the {kind} must be finite, but {len(wrong)} of the {len(split)} in the {role} split hold NaN or "
                    f"infinite values, the first at {wrong[0]}; remove them, or check how they are made"
                )


def check_outputs(model: nn.Module, data: DataRoles | None) -> None:
    """Runs a network on an item of each split and compares its output with the targets: the test split is read late.

    Raises:
        DataError: If it does not run on a split, or they do not fit each other.
        ModelError: If the network returns no tensor.
    """
    if data is None:
        return
    _check_classes(data.search)
    for role, split in (("search", data.search), ("training", data.train), ("test", data.test)):
        if not isinstance(split, ImageSet | StreamedImages | DatasetSource):
            continue
        output = _output_on(model, split, role, data)
        if isinstance(split, DatasetSource):
            if data.task.assigns_classes:
                _check_numbers(split, data, output)
            continue
        targets = split.targets[: None if output.dim() == 2 else _FEW].to(output.device)
        data.task.align(output.expand(len(targets), *output.shape[1:]), targets)


def _check_classes(split: ImageSet) -> None:
    """Rejects pictures of a single class, as in a folder above that of the classes: any network is always right there.

    Raises:
        DataError: If all are of one.
    """
    if len(split.class_names) == 1:
        raise DataError(
            f"pictures must be of two classes or more, and the data has one, {split.class_names[0]!r}; give the folder "
            "that holds one folder for each class with data.root"
        )


def _output_on(
    model: nn.Module, split: ImageSet | StreamedImages | DatasetSource, role: str, data: DataRoles
) -> Tensor:
    """Returns a network's main output for the first input of a split.

    Raises:
        DataError: If it fails there.
    """
    inputs, _ = next(iter(split.take(torch.tensor([0])).batches(1)))
    inputs = inputs.to(device_of(model))
    if (failure := failure_of(model, inputs)) is not None:
        raise DataError(
            f"the network must run on the {role} inputs, and fails on one of shape {tuple(inputs.shape[1:])}: "
            f"{first_line(failure)}; bring them to the shape of the calibration inputs, {data.input_shape}"
        ) from failure
    with inference(model):
        return main_output(model(inputs)).float()


def _check_numbers(split: DatasetSource, data: DataRoles, output: Tensor) -> None:
    """Looks at all items of a data set whose targets are floating-point numbers: those seen so far were whole."""
    for batch in (split.take(torch.tensor([0])), split):
        for _, targets in batch.batches(_MANY):
            if not targets.is_floating_point():
                return
            data.task.align(output.expand(len(targets), *output.shape[1:]), targets.to(output.device))


def check_number_format(model: nn.Module, image: Tensor) -> None:
    """Explains where a network fails on the data only because of its number format.

    Raises:
        DataError: If it runs only when they are in its own number format.
    """
    wanted = next((p.dtype for p in model.parameters() if p.is_floating_point()), image.dtype)
    if image.dtype == wanted or failure_of(model, image) is None or failure_of(model, image.to(wanted)) is not None:
        return
    or_network = "" if wanted == torch.float32 else ", or the network, as in model.float()"
    raise DataError(
        f"the data must be what the network takes, but is {image.dtype} where the network is {wanted}; convert it, "
        f"as in x.to({wanted}), and scale bytes, as in x / 255{or_network}"
    )
