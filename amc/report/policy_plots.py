"""The picture of a policy."""

from __future__ import annotations

from pathlib import Path

from amc.pipeline.policies import PolicyCurves
from amc.utils.durable_files import replacing

_FLAT = 0.02
"""Features that change the ratio by less are not drawn."""


def plot_policy(path: Path, network: str, curves: PolicyCurves) -> None:
    """Draws what a policy removes from every layer at each budget, and how its action depends on single features.

    Args:
        path: PNG file to write.
        network: Name of the network.
        curves: What the policy does.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 9), layout="constrained")
    FigureCanvasAgg(figure)
    by_layer, by_feature = figure.subplots(2, 1)
    places = range(len(curves.decisions))
    for budget, ratios in sorted(curves.ratios.items(), reverse=True):
        by_layer.plot(places, ratios, "o-", color=colormaps["viridis"](budget), label=f"{budget:.0%}", markersize=3)
    by_layer.set(ylabel="pruning ratio (removed)", ylim=(-0.02, 1.02), title=f"{network}: what goes, by budget kept")
    by_layer.set_xticks(places, curves.decisions, rotation=90, fontsize=7)
    by_layer.legend(ncols=3, fontsize=8)
    for index, (name, response) in enumerate(curves.responses.items()):
        if response.max() - response.min() >= _FLAT:
            style = "-" if index < 10 else "--"
            by_feature.plot(curves.values, response, style, label=name)
    title = "mean action when a single feature is set, over the states above"
    by_feature.set(xlabel="value of the feature", ylabel="pruning ratio asked for", title=title)
    if by_feature.lines:
        by_feature.legend(ncols=3, fontsize=8)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=90, format="png")
