"""Which device computes, and in which number format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import nn

from amc.errors import ConfigurationError

DeviceLike = str | torch.device
"""`"auto"`, `"cpu"`, `"cuda"`, `"cuda:1"`, or a `torch.device`."""

# On a CPU the conversions cost more than they save on images smaller than this: 8x8 digits train twice as slowly.
_WORTHWHILE_PIXELS = 16 * 16

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def resolve_device(device: DeviceLike = "auto") -> torch.device:
    """Turns an option into a device.

    Args:
        device: `"auto"` takes CUDA where there is one, else the CPU.

    Raises:
        ConfigurationError: If the device is not known or not present.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigurationError(f"device must be auto, cpu or cuda, not {device!r}") from error
    if resolved.type not in ("cpu", "cuda"):
        raise ConfigurationError(f"device must be auto, cpu or cuda, not {str(device)!r}")
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if resolved.type == "cuda" and not (resolved.index or 0) < here:
        raise ConfigurationError(f"device {str(device)!r} is not available on this machine; use device cpu or auto")
    return resolved


def resolve_dtype(
    dtype: str | torch.dtype, device: torch.device, input_shape: Sequence[int] | None = None
) -> torch.dtype:
    """Turns an option into the number format of convolutions and matrix products.

    Args:
        dtype: `"float32"`, `"bfloat16"`, or `"auto"`: bfloat16 where the device computes it faster.
        device: The device that computes.
        input_shape: Shape `(C, H, W)` of one image that is trained on, where known: `"auto"` takes float32 for small
            ones on a CPU, as autocast would convert more than it saves.

    Raises:
        ConfigurationError: If the format is neither.
    """
    if dtype == "auto":
        small = input_shape is not None and len(input_shape) == 3 and math.prod(input_shape[1:]) < _WORTHWHILE_PIXELS
        gains = bfloat16_pays(device) and not (small and device.type == "cpu")
        return torch.bfloat16 if gains else torch.float32
    name = str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise ConfigurationError(f"dtype must be auto, float32 or bfloat16, not {name!r}")
    return _DTYPES[name]


def bfloat16_pays(device: torch.device) -> bool:
    """Returns whether a device has bfloat16 in hardware, which makes it faster than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and _cpu_has_bfloat16()


def autocast(dtype: torch.dtype, device: torch.device) -> torch.autocast:
    """Returns the context in which a network computes in `dtype`; it does nothing for float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def device_of(model: nn.Module) -> torch.device:
    """Returns the device of a network's first parameter, the CPU if it has none."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


@lru_cache(maxsize=1)
def _cpu_has_bfloat16() -> bool:
    """Looks for AMX or AVX512-BF16; without them oneDNN emulates bfloat16 and is slower than in float32."""
    # These probes have no public name in the older PyTorch versions; where one is missing, float32 is the safe answer.
    probes = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(probe() for probe in probes if probe is not None)
