"""Measures whether the smaller network is also faster."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from amc.latency.profiling import Timer, timer_for
from amc.pipeline.task import Task
from amc.runtime import resolve_device
from amc.runtime.call import call, move, on_device
from amc.runtime.latency import WHY_SMALL_IS_NOT_FAST, measure_latency
from amc.utils.progress import Progress, silent

_ROUNDS = 50
_SECONDS = 2.0
_ENGINE = "PyTorch"


def compare_latency(task: Task, model: nn.Module, advance: Progress = silent) -> dict[str, Any]:
    """Times the dense and the smaller network alternately: in PyTorch on one input, or as the budget's profile says.

    In PyTorch it takes two seconds at most, so that every run can afford it; `amc export` measures longer, and in
    onnxruntime.

    Args:
        task: The dense network, its example input, and where to compute.
        model: The smaller network, in evaluation mode; it stays where it is.
        advance: Takes the share that is done.

    Returns:
        As in `summary.json`: `"dense"` and `"pruned"` in milliseconds (medians), `"ratio"` (the median of each round's
        ratio, pruned to dense), and how it was measured: `"engine"`, `"device"`, `"batch_size"`, `"threads"`.
    """
    if task.latency is not None and task.latency.is_here:
        return _as_profiled(task, model)
    device = resolve_device(task.device)
    models: dict[str, Callable[[Any], Any]] = {
        name: partial(call, _on(network, device)) for name, network in (("dense", task.model), ("pruned", model))
    }
    example = on_device(task.example_input, device)
    dense, pruned = measure_latency(models, example, (1,), _ROUNDS, max_seconds=_SECONDS, advance=advance)
    return {
        "dense": dense.median_ms,
        "pruned": pruned.median_ms,
        "ratio": 1.0 / pruned.speed_up_over(dense),
        "engine": _ENGINE,
        "device": str(device),
        "batch_size": 1,
        "threads": torch.get_num_threads(),
    }


def timer_of(task: Task) -> Timer:
    """Returns what times networks in the way of the budget's profile."""
    assert task.latency is not None
    profile = task.latency.profile
    return timer_for(profile.engine, task.model, task.structure, task.example_input, profile.batch, profile.threads)


def _as_profiled(task: Task, model: nn.Module) -> dict[str, Any]:
    """Times the dense and the smaller network with the engine, threads and batch of the profile."""
    assert task.latency is not None
    profile = task.latency.profile
    found = timer_of(task).compare(copy.deepcopy(model).cpu().eval(), _ROUNDS)
    return {
        "dense": found["dense"][0],
        "pruned": found["network"][0],
        "ratio": found["ratio"],
        "engine": profile.engine,
        "device": "cpu",
        "batch_size": profile.batch,
        "threads": profile.threads,
    }


def slower_note(latency: Mapping[str, Any], kind: str) -> str | None:
    """Returns a warning if a network became smaller but not faster, with what to try; None if it became faster.

    Args:
        latency: What `compare_latency` returned.
        kind: `"filter"` or `"weight"` pruning.
    """
    if latency["ratio"] < 1.0:
        return None
    remedy = "zeros do not make the dense kernels of PyTorch faster" if kind == "weight" else WHY_SMALL_IS_NOT_FAST
    return (
        f"the smaller network is not faster: it takes {latency['ratio']:.2f} times as long ({latency['engine']} on "
        f"{latency['device']}, batch {latency['batch_size']}); {remedy}"
    )


def _on(network: nn.Module, device: torch.device) -> nn.Module:
    """Returns a network in evaluation mode on a device; a copy if it is elsewhere or in training mode."""
    here = next(network.parameters()).device
    if here == device and not network.training:
        return network
    twin = copy.deepcopy(network).eval()
    move(twin, device=device)
    return twin
