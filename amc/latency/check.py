"""The errors of a latency model on networks that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from amc.errors import BudgetError
from amc.latency.fit import FittedLatency
from amc.latency.profile_file import Network, Profile

LEAST_CHECKED = 20
"""Number of unseen networks that a model must have been checked on."""
MOST_ERROR = 0.10
"""Mean absolute error, as a share, above which a time budget is rejected."""


def errors_of(profile: Profile, fitted: FittedLatency) -> dict[str, float]:
    """Compares predictions with measurements.

    Returns:
        `"networks"`: how many unseen networks were measured; `"mape"`: mean absolute error as a share; `"bias"`: mean
        error, positive where the prediction is too large; `"rank_correlation"`: Spearman's; `"off_grid"`: the median
        of measured over predicted time of the networks off the engine's steps, where there are some.
    """
    unseen, probes = profile.of_role("check"), profile.of_role("probe")
    wrong = _errors(unseen, profile, fitted)
    measured = [network.ratio for network in unseen]
    predicted = [fitted.predicted_ns(network.widths) for network in unseen]
    several = len(unseen) > 1 and len(set(measured)) > 1 and len(set(predicted)) > 1
    found = {
        "networks": float(len(unseen)),
        "mape": float(np.mean(np.abs(wrong))) if unseen else 1.0,
        "bias": float(np.mean(wrong)) if unseen else 1.0,
        "rank_correlation": _rank_correlation(measured, predicted) if several else 0.0,
    }
    if probes:
        found["off_grid"] = float(np.median(1 / (1 + _errors(probes, profile, fitted))))
    return found


def _rank_correlation(measured: Sequence[float], predicted: Sequence[float]) -> float:
    """Returns Spearman's."""
    from scipy.stats import spearmanr  # takes a second to load, which every command would wait for

    return float(spearmanr(measured, predicted).statistic)


def points_of(profile: Profile, fitted: FittedLatency) -> list[tuple[float, float]]:
    """Returns the time of every unseen network as predicted and as measured, in shares of the dense network's."""
    unseen, dense = profile.of_role("check"), profile.dense_ms * 1e6
    return [(fitted.predicted_ns(network.widths) / dense, network.ratio) for network in unseen]


def check_line(check: dict[str, float]) -> str:
    """Describes the errors of a model."""
    line = (
        f"model checked on {check['networks']:.0f} unseen networks: mean absolute error {check['mape']:.1%}, bias "
        f"{check['bias']:+.1%}, rank correlation {check['rank_correlation']:.3f}"
    )
    return line + (
        f"; off the grid a network takes {check['off_grid']:.2f} times as long" if "off_grid" in check else ""
    )


def refuse_unsure(check: dict[str, float], *, insist: bool) -> None:
    """Rejects a model whose errors are too large, unless the user insists.

    Raises:
        BudgetError: If its mean error is above 10%, or it was checked on fewer than 20 networks.
    """
    doubt = doubt_of(check)
    if doubt is not None and not insist:
        raise BudgetError(doubt)


def doubt_of(check: dict[str, float]) -> str | None:
    """Returns why a model is refused without consent, with the remedy; None if it is not.

    Args:
        check: As a profile holds it.
    """
    if check["networks"] < LEAST_CHECKED:
        return (
            f"a profile must be checked on at least {LEAST_CHECKED} unseen networks, not {check['networks']:.0f}; "
            "profile again with --checks 24, or insist with --budget.insist true"
        )
    if check["mape"] > MOST_ERROR:
        return (
            f"the profile's predictions must be right to {MOST_ERROR:.0%} on average, and are {check['mape']:.1%} off: "
            "profile again on a quiet machine with more --rounds, or insist with --budget.insist true"
        )
    return None


def _errors(networks: Sequence[Network], profile: Profile, fitted: FittedLatency) -> NDArray[np.float64]:
    """Returns by how much each prediction is too large, as a share of the measurement."""
    measured = np.array([network.ratio * profile.dense_ms * 1e6 for network in networks])
    predicted = np.array([fitted.predicted_ns(network.widths) for network in networks], dtype=np.float64)
    errors: NDArray[np.float64] = predicted / measured - 1
    return errors
