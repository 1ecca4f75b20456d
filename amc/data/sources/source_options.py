"""What the loaders of data sets take and return."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from amc.data.image_set import ImageSet
from amc.data.reading.broken_images import BrokenImages
from amc.data.streamed_images import StreamedImages
from amc.utils.progress import Progress, silent

Statistics = tuple[tuple[float, ...], tuple[float, ...]]

IMAGENET_STATISTICS: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet, with which most public networks, those for CIFAR included, were trained."""

GREY_STATISTICS: Statistics = ((0.1307,), (0.3081,))
"""Mean and standard deviation of MNIST."""

Split = ImageSet | StreamedImages
Splits = tuple[Split, Split]

_LARGE = 96
"""Height or width, in pixels, from which images that stream are augmented as ImageNet's are."""


@dataclass(frozen=True)
class SourceOptions:
    """The options of a loader; see `DataConfig`.

    Attributes:
        name: As there, and so are `root` to `memory`, and the columns.
        workers: Processes that decode images of a stream.
        broken: What becomes of images that cannot be decoded.
        advance: Takes the share of the images that is listed or decoded.
        image_column: As in `DataConfig`.
        label_column: As in `DataConfig`.
    """

    name: str
    root: Path | None
    image_size: int | None
    train_images: int | None
    test_images: int | None
    download: bool
    cache: bool
    memory: float = 0.25
    workers: int = 0
    broken: BrokenImages = field(default_factory=lambda: BrokenImages(skips=False))
    advance: Progress = silent
    image_column: str | None = None
    label_column: str | None = None


def augmentation_for(shape: tuple[int, ...], natural: str) -> str:
    """Returns the augmentation of images that stream: large natural ones are cut out of the whole picture.

    Args:
        shape: Of one image, `(C, H, W)`.
        natural: What would be used in memory; characters and signs keep it.
    """
    return "resized_crop" if natural == "crop_flip" and min(shape[1:]) >= _LARGE else natural
