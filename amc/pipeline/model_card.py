"""The model card of a pruned network: a README with the metadata that model hubs read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from amc.costs.metrics import METRICS, noun_of


def model_card(summary: Mapping[str, Any], preprocessing: Mapping[str, Any] | None = None) -> str:
    """Writes the model card of a network; nothing is uploaded.

    Args:
        summary: The figures, as `summary.json` holds them.
        preprocessing: How images are prepared, as in `preprocessing.json`; None if unknown.

    Returns:
        Markdown, with the metadata first, as the Hugging Face Hub reads it.
    """
    model = str(summary["model"])
    parts = [
        f"# {_plain(model)}, pruned",
        _what(summary),
        "## Figures",
        _figures(summary),
        "## Use",
        _use(preprocessing),
        "## What was removed",
        _removed(summary),
        "## Limits",
        "The accuracies are those of one run on one test split. Pruning can hurt some classes more than others: see "
        "`report.html` and the classes in `summary.json`. Latency is that of the device it was measured on.",
    ]
    front = yaml.safe_dump(_metadata(summary, preprocessing), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n\n".join(parts) + "\n"


def _metadata(summary: Mapping[str, Any], preprocessing: Mapping[str, Any] | None) -> dict[str, Any]:
    figure = _final(summary)
    data = _plain((summary.get("data") or {}).get("name") or "")
    record: dict[str, Any] = {
        "library_name": "pytorch",
        "tags": ["pruning", "model-compression", "amc"],
        "base_model_name": _plain(summary["model"]),  # one line: three dashes on a line end the metadata
    }
    if preprocessing is not None:
        record["pipeline_tag"] = "image-classification"
    if figure is not None and str(summary.get("metric") or "").startswith("top-1"):
        result = {
            "task": {"type": "image-classification"},
            "dataset": {"name": data or "the test split of the run", "type": data or "held-out", "split": "test"},
            "metrics": [{"type": "accuracy", "value": round(figure / 100, 4), "name": "top-1"}],
        }
        record["model-index"] = [{"name": f"{_plain(summary['model'])}, pruned", "results": [result]}]
    return record


def _what(summary: Mapping[str, Any]) -> str:
    family = (summary.get("pruning") or {}).get("family")
    removed = "single weights set to zero" if family == "weight" else "whole filters removed"
    who = summary.get("agent")
    agent = f" The allocation over the layers was found by `{_plain(who)}`." if who else ""
    return (
        f"`{_plain(summary['model'])}` with {removed}, by [AMC](https://arxiv.org/abs/1802.03494)-style layer-wise "
        f"pruning.{agent}{_data(summary.get('data'))}"
    )


def _data(data: Mapping[str, Any] | None) -> str:
    """Says which data the network was pruned on; nothing where a function of the user's own judged it."""
    if data is None:
        return ""
    name = f"`{_plain(data['name'])}`" if data["name"] else "data of its maker's own"
    return (
        f" It was pruned on {name}: {data['train']:,} examples to train on, {data['search']:,} to choose by, "
        f"{data['test']:,} to test."
    )


def _figures(summary: Mapping[str, Any]) -> str:
    lines = ["| | dense | pruned |", "| --- | ---: | ---: |"]
    for name, cost in summary["costs"].items():
        noun = noun_of(name) if name in METRICS else name
        dense = "-" if cost["dense"] is None else f"{cost['dense']:,}"
        share = f" ({100 * cost['pruned'] / cost['dense']:.1f}%)" if cost["dense"] else ""
        lines.append(f"| {noun} | {dense} | {cost['pruned']:,}{share} |")
    metric = _plain(summary.get("metric") or "test figure")
    lines.append(f"| {metric} | {_two(summary['accuracy'].get('dense'))} | {_two(_final(summary))} |")
    latency = summary.get("latency_ms")
    if latency:
        how = f"latency in ms ({latency['engine']}, {latency['device']}, batch {latency['batch_size']})"
        lines.append(f"| {how} | {latency['dense']:.3g} | {latency['pruned']:.3g} |")
    return "\n".join(lines) + "\n\nA FLOP is a fused multiply-add, as fvcore counts."


def _use(preprocessing: Mapping[str, Any] | None) -> str:
    text = '```python\nimport amc\n\nmodel = amc.load("FOLDER")  # your own classes: model= or trust=True\n```'
    if preprocessing is None:
        return text
    size = f"{preprocessing['height']} x {preprocessing['width']}"
    classes = preprocessing["class_names"]
    return text + (
        f"\n\nInputs are {preprocessing['channels']} images of {size} pixels, prepared as `preprocessing.json` says; "
        f"it also names the {len(classes)} classes."
    )


def _removed(summary: Mapping[str, Any]) -> str:
    budget = ", ".join(f"{name} at most {limit:,}" for name, limit in summary["budget"].items())
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    return (
        f"Budget: {budget or 'none'}. `policy.json` says what each layer keeps, `architecture.json` how the "
        f"network was cut. Schedule `{_plain(summary['schedule'])}`, seed {summary['seed']}. Made with {versions}."
    )


def _final(summary: Mapping[str, Any]) -> float | None:
    """Returns the test figure of the network as it is delivered: fine-tuned if it was."""
    accuracy = summary["accuracy"]
    figure: float | None = accuracy.get("finetuned")
    return accuracy.get("pruned") if figure is None else figure


def _plain(text: Any) -> str:
    """Returns a text without characters that mean something in Markdown."""
    return str(text).replace("|", "/").replace("`", "'").replace("\n", " ")


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
