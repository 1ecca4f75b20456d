"""Which clock measures work."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

Clock = Callable[[], float]
"""Returns seconds since some moment."""


def clock_for(device: torch.device) -> Clock:
    """Returns what measures work: processor time where one CPU thread does it, which other programs hardly affect."""
    return time.process_time if is_one_thread(device) else time.perf_counter


def is_one_thread(device: torch.device) -> bool:
    """Returns whether one thread of the CPU does the work."""
    return device.type == "cpu" and torch.get_num_threads() == 1
