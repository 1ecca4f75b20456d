"""Sizes that modules remember under usual names: of heads, of widths, of the shapes that they give to tensors."""

from __future__ import annotations

from typing import Any

from amc.tracing.record import Trace
from amc.tracing.shadow import Shadow

_HEADS = "num_heads n_heads nhead n_head num_attention_heads heads"
_SHARED_HEADS = "num_key_value_heads num_kv_heads n_kv_heads n_kv_head kv_heads"
HEAD_ATTRIBUTES = (*_HEADS.split(), *_SHARED_HEADS.split())
"""Names under which modules remember the number of attention heads, or of those that share keys and values."""

_HEAD_WIDTHS = "head_dim dim_head d_head head_size attention_head_size dim_per_head head_width d_k"
HEAD_WIDTHS = tuple(_HEAD_WIDTHS.split())
"""Names under which modules remember the width of one head."""

_NO_HEADS = "groups num_groups group g r scale upscale_factor kernel_size stride patch_size"
NO_HEADS = frozenset(_NO_HEADS.split())
"""Names under which modules remember numbers by which they split channels into something other than heads."""

_WIDTHS = "attn_dim inner_dim out_dim dh key_attn_dim val_attn_dim all_head_size hidden_dim"
WIDTH_ATTRIBUTES = tuple(_WIDTHS.split())
"""Names of widths that modules pass to `reshape`: that of all heads together, or of the tokens."""

LAYER_SIZES = ("normalized_shape", "kernel_size", "stride", "padding", "dilation", "output_size")
"""Names under which layers remember sizes that they do not pass to `reshape`."""


def note_shape(trace: Trace, shadow: Shadow) -> None:
    """Notes what the running module remembers of the shape that it has just given to a tensor.

    That is a width under one of the usual names, or a tuple with the shape ittrace.
    """
    for axis in shadow.varying:
        for name in WIDTH_ATTRIBUTES:
            if _is(getattr(trace.module, name, None), shadow.shape[axis]):
                trace.attribute(trace.modules[-1], name, shadow.vector(axis))
        # A module may call its child's method for this.
        for child, module in (("", trace.module), *trace.module.named_children()):
            for name, held in vars(module).items():
                place = axis - len(shadow.shape) + len(held) if _are_sizes(held) else -1
                if place >= 0 and name not in LAYER_SIZES and tuple(held) == shadow.shape[axis - place :]:
                    path = ".".join(filter(None, (trace.modules[-1], child)))
                    trace.remember(path, f"{name}[{place}]", shadow.vector(axis))


def head_attributes(trace: Trace, heads: int) -> list[str]:
    """Returns the names under which the running module remembers a number of heads."""
    module = trace.module
    return [name for name in HEAD_ATTRIBUTES if _is(getattr(module, name, None), heads)]


def heads_axis(trace: Trace, shadow: Shadow) -> int | None:
    """Returns the axis that counts heads; where the width of a head is the same number, it comes last.

    Under a name of their own heads are the last axis but one of features split in two, if the module
    remembers how many there are, or how wide one is.
    """
    rank = len(shadow.shape)
    axes = [axis for axis in shadow.varying if head_attributes(trace, shadow.shape[axis])]
    if len(axes) > 1 and axes[-1] == shadow.varying[-1]:
        axes.pop()
    if axes or rank <= 2:
        return axes[-1] if axes and rank > 2 else None
    heads, width = shadow.shape[-2:]
    own = [name for name, held in vars(trace.module).items() if type(held) is int and held == heads]
    named = any(_is(getattr(trace.module, name, None), width) for name in HEAD_WIDTHS)
    split = shadow.varying[-2:] == (rank - 2, rank - 1) and shadow.varying[0] > 1
    return rank - 2 if split and (named or not NO_HEADS.issuperset(own)) else None


def _is(held: Any, size: int) -> bool:
    """Returns whether an attribute's value is a size; modules may hold anything under a name."""
    return type(held) is int and held == size


def _are_sizes(held: Any) -> bool:
    """Returns whether a value holds sizes: lists of tensors, such as anchors, do not."""
    return isinstance(held, (tuple, list)) and all(type(number) is int for number in held)
