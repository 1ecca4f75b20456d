"""Hooks that watch a network for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from amc.runtime.call import call, inference


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Removes hooks at the end of a block, whatever happens in it."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def run_hooked(
    model: nn.Module,
    batches: Iterable[Any],
    handles: Iterable[RemovableHandle],
    after_batch: Callable[[], object] = lambda: None,
) -> None:
    """Runs a network once over some inputs, in evaluation mode and without gradients, and removes the hooks on it.

    Args:
        model: The network, on the device of the batches.
        batches: Its inputs, each as `amc.runtime.call.call` takes them.
        handles: The hooks.
        after_batch: Called after each batch.
    """
    with hooked(handles), inference(model):
        for batch in batches:
            call(model, batch)
            after_batch()
