"""What several processes cannot train, found before anything takes time."""

from __future__ import annotations

import io
import os
import pickle
from typing import Any

import torch
from torch import Tensor

from amc.errors import ConfigurationError
from amc.runtime.call import first_line
from amc.training.distributed.group import check_installed, under_torchrun
from amc.training.distributed.shards import shard_of
from amc.training.work import Work


def kind_of_device(device: str) -> str:
    """Returns `"cpu"` or `"cuda"`.

    Raises:
        ConfigurationError: If one device is named by its number.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise ConfigurationError(
            f"with several processes device must be auto, cpu or cuda, not {device!r}: each takes one; choose which "
            "GPUs with the environment variable CUDA_VISIBLE_DEVICES"
        )
    return device


def check_devices(devices: int, device: str) -> None:
    """Checks that a machine has as many devices as processes are wanted.

    Args:
        devices: How many.
        device: `"cpu"` or `"cuda"`.

    Raises:
        ConfigurationError: If there are fewer, or what joins the processes is not installed.
    """
    if devices < 1:
        raise ConfigurationError(f"devices must be at least 1, not {devices}")
    if device == "cuda":
        here = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if devices > here:
            raise ConfigurationError(f"devices must be at most {here}, the GPUs that are here, not {devices}")
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if devices > cores:
            raise ConfigurationError(
                f"devices must be at most {cores} on a CPU, the cores that are here, not {devices}; "
                "--device cuda takes GPUs"
            )
    check_installed()


def check_not_torchrun(devices: int) -> None:
    """Refuses a number of devices where `torchrun` has started the processes.

    Raises:
        ConfigurationError: If there is one.
    """
    if under_torchrun() and devices != 1:
        raise ConfigurationError(
            f"devices must be 1 under torchrun, not {devices}: torchrun --nproc-per-node says how many there are"
        )


def check_work(work: Work, size: int) -> None:
    """Refuses a training that some processes cannot share.

    Raises:
        ConfigurationError: If the batch, the data, an option or a part of the network cannot be shared.
    """
    shard_of(work.data.train, 0, size)
    assert work.config.batch_size is not None
    batch = min(work.config.batch_size, len(work.data.train))
    if batch % size:
        near = max(size, round(batch / size) * size)
        raise ConfigurationError(
            f"batch_size must be a multiple of the {size} processes, each of which has an equal part of it, not "
            f"{batch}; {near} is the nearest"
        )
    if work.config.compile:
        raise ConfigurationError(
            f"compile must be false with several processes ({size} here): their batch norms exchange statistics within "
            "the network, which torch.compile does not take"
        )
    for name, part in (("network", work.model), ("dense network", work.teacher), ("data", work.data.train)):
        _check_picklable(name, part)
    _check_picklable("terms of the objective", list(work.terms))


def _check_picklable(name: str, part: Any) -> None:
    try:
        _Trial(io.BytesIO(), protocol=pickle.HIGHEST_PROTOCOL).dump(part)
    except Exception as error:  # whatever a class of the user's own raises
        raise ConfigurationError(
            f"several processes need a {name} that can be pickled, and this one cannot: {first_line(error)}; define "
            "its classes and functions at the top of a module, or train with devices 1"
        ) from error


class _Trial(pickle.Pickler):
    """Pickles all but the numbers in tensors."""

    def persistent_id(self, item: Any) -> str | None:
        return "tensor" if type(item) in (Tensor, torch.nn.Parameter) else None
