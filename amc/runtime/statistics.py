"""Statistics of norms that a network's `state_dict` leaves out."""

from __future__ import annotations

from torch import nn

_STATISTICS = frozenset({"running_mean", "running_var", "num_batches_tracked"})


def keep_statistics(model: nn.Module) -> None:
    """Lets a network's `state_dict` hold the running statistics of its norms, in place.

    Some networks register them with `persistent=False`. They are what training and re-estimation have found, so that a
    network that is saved without them computes something else when it is loaded.
    """
    for module in model.modules():
        if module._non_persistent_buffers_set & _STATISTICS:
            module._non_persistent_buffers_set = module._non_persistent_buffers_set - _STATISTICS
