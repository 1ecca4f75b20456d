"""The multiple to which the channels of each group are rounded, where the target device decides."""

from __future__ import annotations

from collections import Counter

from amc.runtime.blocks import block_of
from amc.structure import LayerSpec, ModelStructure
from amc.utils.counted import counted

_STEPS = 8
"""A group is rounded to a block where that leaves it as many widths; narrower ones to a smaller one."""
_ALIGNED, _LEAST_ALIGNED = 4, 16
"""onnxruntime's fast convolutions take inputs of a multiple of 4 channels: with 31 of 32 a 3x3 convolution takes 1.3
times as long. Groups of fewer than 16 channels stay free."""
_SMALL_FLOPS = 1_000_000
"""In layers that compute less, starting the operators takes the time, whatever their widths."""


def step_of(structure: ModelStructure, group: int, round_to: int | str) -> int:
    """Returns the number whose multiples a group may keep.

    With `"auto:N"` it is N for wide groups, half of it for those of at least `8 * N / 2` channels, and 4 (below 16
    channels 1) for narrower ones, for which a block would be too coarse; but N where a depthwise or a 1x1 convolution
    runs along. Other widths leave onnxruntime's fast kernels. Groups whose layers compute next to nothing are free:
    rounding them would cost accuracy and gain no time.

    Args:
        structure: The traced network.
        group: Index of the channel group.
        round_to: A number for all groups, or `"auto:N"` for blocks of N.
    """
    block = block_of(round_to)
    if block is None:
        assert isinstance(round_to, int)
        return round_to
    names = {*structure.groups[group].writers, *structure.groups[group].readers}
    layers = [
        layer for layer in structure.layers if layer.owner in names or layer.writes == group or group in layer.reads
    ]
    if sum(layer.flops for layer in layers) < _SMALL_FLOPS:
        return 1
    channels = structure.groups[group].channels
    for step in (block, block // 2):
        if step > 1 and channels >= _STEPS * step:
            return step
    if any(_needs_blocks(layer) for layer in layers):
        return block
    return _ALIGNED if channels >= _LEAST_ALIGNED and block >= _ALIGNED else 1


def _needs_blocks(layer: LayerSpec) -> bool:
    """Returns whether a layer is slower with channels that are no whole blocks."""
    is_pointwise = layer.kind == "conv" and layer.kernel_size == (1, 1) and layer.input_size != (1, 1)
    return layer.kind == "depthwise" or is_pointwise


def rounding_line(steps: list[int], round_to: int | str) -> str | None:
    """Describes what `"auto"` has chosen; None where a number was given.

    Args:
        steps: The step of every decision.
        round_to: As for `step_of`.
    """
    block = block_of(round_to)
    if block is None:
        return None
    counts = sorted(Counter(steps).items(), reverse=True)
    words = [f"multiples of {step} in {count}" if step > 1 else f"free in {count}" for step, count in counts]
    return (
        f"widths: {', '.join(words)} of {counted(len(steps), 'group')}, for a device that computes {block} channels "
        "at once (--pruning.round_to 1 frees all)"
    )
