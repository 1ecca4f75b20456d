"""How many channels a device computes at once, and the spelling of the option that uses it.

A committed table rather than a measurement: it must give the same widths in every run of the same seed.
"""

from __future__ import annotations

import re

import torch

from amc.errors import ConfigurationError

BLOCKS = {"cuda": 8, "AVX512": 16, "AVX2": 8}
"""Channels in a block: tensor cores take multiples of 8; on a CPU the kernels of oneDNN and of onnxruntime pad
channels to one vector register of float32."""
_OTHER = 8
"""On any other CPU: two registers of NEON."""
_AUTO = re.compile(r"auto(?::([1-9][0-9]{0,3}))?")


def preferred_block(device: torch.device) -> int:
    """Returns how many channels a device computes at once; a width between two multiples costs as much as the next."""
    kind = device.type if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return BLOCKS.get(kind, _OTHER)


def settled(round_to: int | str, device: torch.device) -> int | str:
    """Returns `"auto"` with the block of a device, as in `"auto:16"`, which means the same on any device."""
    return f"auto:{preferred_block(device)}" if round_to == "auto" else round_to


def check_round_to(round_to: int | str) -> None:
    """Checks how an option spells what widths are rounded to.

    Raises:
        ConfigurationError: If it is neither a number from 1 up nor `"auto"` nor `"auto:N"`.
    """
    if (isinstance(round_to, str) and _AUTO.fullmatch(round_to)) or (isinstance(round_to, int) and round_to >= 1):
        return
    raise ConfigurationError(
        f"pruning.round_to must be a whole number from 1 up, auto, or auto:N for blocks of N, not {round_to!r}"
    )


def block_of(round_to: int | str) -> int | None:
    """Returns the block of `"auto:N"`, that of a common CPU for `"auto"` alone, None for a fixed number."""
    if isinstance(round_to, int):
        return None
    found = _AUTO.fullmatch(round_to)
    return int(found[1]) if found is not None and found[1] else _OTHER
