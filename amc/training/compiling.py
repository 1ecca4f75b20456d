"""`torch.compile` for the forward and backward passes of a training, where it works."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from amc.runtime.call import first_line
from amc.runtime.memory import is_out_of_memory


def compiled(model: nn.Module) -> Callable[[Tensor], Any]:
    """Returns what computes as a network does, compiled at its first call.

    Where PyTorch cannot compile it, for want of a C++ compiler for example, the network itself computes from then on,
    with a warning.
    """
    run: Callable[[Tensor], Any] = torch.compile(model)
    works = False

    def forward(images: Tensor) -> Any:
        nonlocal run, works
        if works:
            return run(images)
        try:
            output = run(images)
        except Exception as error:  # whatever the compiler, or what it calls, raises
            if is_out_of_memory(error):
                raise
            warnings.warn(
                f"the network cannot be compiled ({first_line(error)}); it is trained without", RuntimeWarning, 2
            )
            run = output_of = model
            return output_of(images)
        finally:
            works = True
        return output

    return forward
