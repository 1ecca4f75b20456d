"""Which processor computes: the last digits of sums, and so what a training comes to, depend on its instructions."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import torch

_MOST = 200
"""Characters of a name that are kept."""


@cache
def processor() -> str:
    """Returns the processor's name and the widest instructions that PyTorch uses on it, `"Intel Xeon (AVX512)"`."""
    return f"{(_model_name() or platform.machine())[:_MOST]} ({torch.backends.cpu.get_cpu_capability()})"


def _model_name() -> str:
    """Returns the model's name where the system tells it, as Linux does; else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == "model name")
    return " ".join(next(names, platform.processor()).split())
