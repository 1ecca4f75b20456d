"""One thread for all tests, the same examples of properties every time, and figures without a picture.

Their tensors are too small to share among cores; beside other work, threads would wait for one another for minutes.
"""

import pytest
import torch
from hypothesis import HealthCheck, settings

from amc.report.figures.figure import Figure

torch.set_num_threads(1)
settings.register_profile("fixed", derandomize=True, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
settings.load_profile("fixed")

_DRAWN = Figure._drawn


@pytest.fixture(scope="session", autouse=True)
def _undrawn():
    """Leaves figures empty: most runs of the tests write a report, and drawing it would take half of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "_drawn", lambda self, kind, palette: b'<svg width="9pt" height="9pt"></svg>')
        yield


@pytest.fixture(scope="module")
def drawn():
    """Draws the figures of the module's reports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "_drawn", _DRAWN)
        yield
