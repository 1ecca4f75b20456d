"""The versions that a run was made with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import amc

_PACKAGES = ("torch", "torchvision", "numpy", "gymnasium", "stable-baselines3", "fvcore")


def versions() -> dict[str, str]:
    """Returns the versions of Python, `amc`, and the packages that figures depend on."""
    found = {"python": platform.python_version(), "amc": amc.__version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
