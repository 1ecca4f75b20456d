"""Rules of operators that write channels into other tensors: item by item, by mask, or at positions on another axis.

What is written and what it is written into lose the same channels where they meet. A tensor that belongs to no channel
yet gets those of what is written; see `amc.tracing.canvas`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from amc.runtime.call import tensors_in
from amc.tracing.record import Trace
from amc.tracing.rules_move import combined, mark_sum
from amc.tracing.settling import settled
from amc.tracing.shadow import Shadow, of_full
from amc.tracing.units import NEUTRAL
from amc.tracing.writings import SCATTERING, SUMMING, WRITINGS, Writing, is_mask

BY_POSITION = "written to positions among the channels, which a tensor tells; torch.cat of parts would let them be cut"
"""Why channels stay whole that are written to numbered places."""
ONE_BY_ONE = "written one by one where a mask tells; torch.where in its place would let them be cut"
"""Why channels stay whole of which a mask picks single elements."""
NOTHING = "the example input writes nothing there; a larger one may"
"""Why channels stay whole where a mask tells no place."""

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def copied(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """Writing into a tensor or a part of it: of a step, an image, a place on a map."""
    target, source = args[:2]
    if not _refused_by_keeper(trace, [source], outputs):
        met = combined(trace, [trace.shadow(target), trace.shadow(source)], tuple(target.shape))
        trace.set_shadow(outputs, settled(trace, met))


def written(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """Writing at positions or by a mask: on the axes that these tell, channels stay whole."""
    name = func.overloadpacket.__name__.removesuffix("_")
    given = {**dict(zip((each.name for each in func._schema.arguments), args, strict=False)), **kwargs}
    sources = tensors_in([given.get(key) for key in ("source", "src", "values", "value")])
    if _refused_by_keeper(trace, sources, outputs):
        return
    for key in ("index", "indices"):
        for index in tensors_in(given.get(key)):
            if not is_mask(index):
                trace.freeze_activation(index, "tells positions")
    after = _after(trace, name, WRITINGS[name](trace, given), args[0], sources)
    if isinstance(after, str):
        _refuse(trace, [args[0], *sources], outputs, after)
        return
    if name in SUMMING or given.get("accumulate"):
        mark_sum(trace, [args[0], *sources])
    trace.set_shadow(outputs, settled(trace, after))


def _after(trace: Trace, name: str, how: Writing, target: Tensor, sources: list[Tensor]) -> Shadow | str:
    """Returns the labels of a tensor that was written into, or why channels have to stay whole."""
    before, is_constant = trace.shadow(target), all(trace.shadow(source).is_neutral for source in sources)
    region = of_full(how.read(before.full()), trace.units)
    if not region.core.numel() and not is_constant:
        return NOTHING
    forbidden = {BY_POSITION: how.addressed, ONE_BY_ONE: frozenset[int]() if is_constant else how.picked}
    for reason, axes in forbidden.items():
        if axes & set(before.varying):
            return reason
    met = combined(trace, [region, *(_read_of(trace, name, source, region) for source in sources)], region.shape)
    after = _along_one_axis(of_full(how.write(before.full().clone(), met.full()), trace.units))
    return next((reason for reason, axes in forbidden.items() if axes & set(after.varying)), after)


def _refused_by_keeper(trace: Trace, sources: list[Tensor], outputs: Tensor) -> bool:
    """Freezes what is written into a parameter or a buffer; returns whether it is one."""
    name = trace.views.keeper(outputs)
    if name is not None:
        _refuse(trace, sources, outputs, f"written into {name!r}, which the network keeps")
    return name is not None


def _refuse(trace: Trace, tensors: list[Tensor], outputs: Tensor, reason: str) -> None:
    for tensor in tensors:
        trace.freeze_activation(tensor, reason)
    trace.set_shadow(outputs, Shadow.neutral(outputs.shape))


def _read_of(trace: Trace, name: str, source: Tensor, region: Shadow) -> Shadow:
    """Returns the labels of that part of a source which an operator writes."""
    shadow = trace.shadow(source)
    if name not in (*SCATTERING, "masked_scatter") or source.dim() == 0:
        return shadow
    labels = shadow.full()
    if name == "masked_scatter":
        labels = labels.reshape(-1)
    for axis, length in enumerate(region.shape):
        labels = labels.narrow(axis, 0, length)
    return of_full(labels, trace.units)


def _along_one_axis(shadow: Shadow) -> Shadow:
    """Returns labels that stand somewhere along an axis for all of it: what is not written is as wide as what is."""
    for axis in shadow.varying:
        others = [each for each in range(shadow.core.dim()) if each != axis]
        along = shadow.core.amax(others, keepdim=True) if others else shadow.core
        if bool(((shadow.core == NEUTRAL) | (shadow.core == along)).all()):
            return Shadow(along, shadow.shape)
    return shadow


def packed(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Packing of padded sequences: the steps of all of them become rows, each with its channels."""
    steps, counts = outputs
    shadow = trace.shadow(args[0])
    assert not {0, 1} & set(shadow.varying), "channels along the steps"
    trace.set_shadow(steps, Shadow(shadow.core.squeeze(0), tuple(steps.shape)))
    trace.set_shadow(counts, Shadow.neutral(counts.shape))


RULES: dict[str, Callable[..., None]] = {
    **dict.fromkeys(WRITINGS, written),
    "copy": copied,
    "_pack_padded_sequence": packed,
}
