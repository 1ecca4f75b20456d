"""The images of a search, kept in the form in which the working copy of the network is fastest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from amc.pruning.candidate import CandidateNetwork
from amc.runtime.batch_size import inputs_at_once

_KEPT_BYTES = 2**28
"""Images that are kept ready for the network take no more than this."""


def images_at_once(device: torch.device, values: int) -> int:
    """Returns how many images to run at once.

    On a CPU so few that activations stay in its cache (eight of 224 x 224 pixels: MobileNet V1 then takes half of the
    time that it takes in batches of 100); on an accelerator, up to four million values: an operator on few
    small images takes it less time than being started.

    Args:
        device: Where the network runs.
        values: Values of one image, C * H * W.
    """
    few, many = 250, 2000
    return inputs_at_once(values) if device.type == "cpu" else min(many, max(few, 2**22 // values))


class PreparedImages:
    """Images in the form in which the forward pass is fastest, handed out in batches and in any order.

    They are kept in that form where they take little memory; of many large images each batch is made when it is asked
    for, so that bytes stay bytes.
    """

    def __init__(
        self, network: CandidateNetwork, images: Tensor, count: int, change: Callable[[Tensor], Tensor] | None
    ) -> None:
        """Prepares them, or leaves them as they are.

        Args:
            network: The working copy.
            images: `(N, C, H, W)`.
            count: Images in a batch at most.
            change: Normalises images; None where they are.
        """
        self._network, self._change, self._count = network, change, count
        self.are_ready = images.numel() * 4 <= _KEPT_BYTES
        self._images = self._all_ready(images) if self.are_ready else images

    def __len__(self) -> int:
        """The number of images."""
        return len(self._images)

    def batches(self, start: int = 0, end: int | None = None, order: Tensor | None = None) -> Iterator[Tensor]:
        """Yields batches, of nearly the same size, as `CandidateNetwork.run` takes them.

        Args:
            start: The first of the images.
            end: The one after the last; all by default.
            order: Numbers of the images `(N,)`, of which `start` to `end` are meant; as they are by default.
        """
        end = len(self) if end is None else end
        parts = -(-(end - start) // self._count)
        bounds = [start + (end - start) * part // parts for part in range(parts + 1)] if parts else []
        for first, last in pairwise(bounds):
            part = self._images[first:last] if order is None else _taken(self._images, order[first:last])
            yield part if self.are_ready else self._ready(part)

    def _all_ready(self, images: Tensor) -> Tensor:
        """Prepares all images, a batch at a time, so that they are in memory once; images that are ready stay."""
        parts = torch.split(images, self._count)
        ready = self._ready(parts[0])
        if ready.data_ptr() == parts[0].data_ptr():
            return images
        layout = torch.channels_last if ready.dim() == 4 and _is_channels_last(ready) else torch.contiguous_format
        kept = torch.empty(
            (len(images), *ready.shape[1:]), dtype=ready.dtype, device=ready.device, memory_format=layout
        )
        for place, part in zip(torch.split(kept, self._count), parts, strict=True):
            place.copy_(self._ready(part))
        return kept

    def _ready(self, images: Tensor) -> Tensor:
        return self._network.prepare(images if self._change is None else self._change(images))


def _taken(images: Tensor, numbers: Tensor) -> Tensor:
    """Returns some images in the memory layout that they have; indexing them would turn channels-last around."""
    numbers = numbers.to(images.device)
    if images.dim() != 4:
        return images[numbers]
    return images.permute(0, 2, 3, 1)[numbers].permute(0, 3, 1, 2) if _is_channels_last(images) else images[numbers]


def _is_channels_last(images: Tensor) -> bool:
    return images.is_contiguous(memory_format=torch.channels_last)
