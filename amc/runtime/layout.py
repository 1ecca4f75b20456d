"""Channels-last where a network's code supports it; `x.view(len(x), -1)`, for example, does not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from amc.runtime.call import inference, move


class AnyLayout:
    """Runs a network on channels-last images; once that fails, on contiguous ones from then on."""

    def __init__(self, model: nn.Module) -> None:
        """Takes the network, whose own tensors stay as they are."""
        self._model, self._contiguous = model, False

    def __call__(self, images: Tensor) -> Any:
        """Returns the network's output."""
        if not self._contiguous:
            try:
                return self._model(images)
            except RuntimeError:
                if images.is_contiguous():
                    raise
                self._contiguous = True
        return self._model(images.contiguous())


def lay_out(model: nn.Module, images: Tensor) -> bool:
    """Lays a network out channels-last if it then still runs, and contiguous if not.

    Args:
        model: The network; it is changed in place.
        images: A few inputs on its device, `(N, C, H, W)`; anything else leaves the network contiguous.

    Returns:
        Whether it is laid out channels-last.
    """
    if images.dim() != 4:
        return False
    move(model, memory_format=torch.channels_last)
    try:
        with inference(model):
            model(images.contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        move(model, memory_format=torch.contiguous_format)
        return False
    return True
