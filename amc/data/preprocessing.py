"""How to prepare a picture for a network, as `preprocessing.json` and ONNX files describe it."""

from __future__ import annotations

from typing import Any

from amc.data.image_set import BatchSource, ImageSet
from amc.data.reading.decoding import CROP_SHARE
from amc.data.streamed_images import StreamedImages


def preprocessing_record(split: BatchSource) -> dict[str, Any] | None:
    """Describes how the images of a split become inputs, for programs that do not use this project.

    In this order: the picture is turned into the channels, resized (where `resize` is not null) so that its shorter
    side has that many pixels, cropped at the centre, divided by 255, less `mean`, divided by `std`; the axes are batch,
    channels, height, width. A picture of the size of the crop is not resized; one whose shorter side is no longer than
    the crop is resized to the crop.

    Args:
        split: The test split.

    Returns:
        The record; None for the user's own data, whose preparation is unknown.
    """
    prepared = isinstance(split, ImageSet) and not split.as_given and split.images.dim() == 4
    if not isinstance(split, ImageSet | StreamedImages) or not (prepared or isinstance(split, StreamedImages)):
        return None
    channels, height, width = split.input_shape
    crop = split.fitted_size
    return {
        "format": 1,
        "channels": "RGB" if channels == 3 else "grey" if channels == 1 else channels,
        "layout": "NCHW",
        "height": height,
        "width": width,
        "resize": None if crop is None else {"shorter_side": round(crop / CROP_SHARE), "interpolation": "bilinear"},
        "crop": None if crop is None else {"centre": [crop, crop]},
        "divide_by": 255.0,
        "mean": [float(value) for value in split.mean] or [0.0] * channels,
        "std": [float(value) for value in split.std] or [1.0] * channels,
        "class_names": list(split.class_names),
    }
