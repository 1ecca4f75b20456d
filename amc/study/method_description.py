"""What a method of a study is called, the papers that it follows, and what it needs, from the rules of its study."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.registry import AGENTS
from amc.pruning.criteria.base import CRITERIA
from amc.pruning.recovery.registry import RECOVERIES
from amc.pruning.schedules import SCHEDULES
from amc.training.penalties.registry import PENALTIES
from amc.utils.options import choose
from amc.utils.registry import Registry

REFIT = "sequential"
"""The recovery that stands in columns of its own."""
_ARXIV = re.compile(r"\b(\d{4}\.\d{4,5})\b")
_COMMON = {"criterion": "auto", "agent": "uniform", "schedule": "one_shot"}
_RETRAINING = {"freeze": "none", "dropout": "same"}
"""Settings of the fine-tuning that are methods of Han et al. (arXiv:1506.02626), and their values without."""


@dataclass(frozen=True)
class MethodDescription:
    """A method in the words of a table.

    Attributes:
        name: What differs from uniform one-shot pruning, as it is written in options.
        papers: The papers' arXiv numbers, as links.
        needs: The data that it needs.
    """

    name: str
    papers: str
    needs: str


def describe_method(options: Mapping[str, Any], agent: str) -> MethodDescription:
    """Describes a method by its difference from uniform one-shot pruning.

    These are criterion, allocation, schedule, recovery, penalties and what is frozen. A recovery that changes no
    weight, or that solves least squares where the criterion does so anyway, is the method's own, and is not named.

    Args:
        options: The rules of its study, as in `config.yaml`.
        agent: The agent that made the allocation.
    """
    parts, retraining = _parts(options, agent), _retraining(options)
    name = " + ".join(f"`{part}`" for part in [part for part, _, _ in parts] + retraining)
    return MethodDescription(name or f"`{_default(options['pruning'])}`", _papers(parts, retraining), _needs(parts))


def _parts(options: Mapping[str, Any], agent: str) -> list[tuple[str, Registry[Any], str]]:
    """Returns the parts of a method: spelling, registry, and name in the registry."""
    pruning = options["pruning"]
    chosen = [
        (CRITERIA[pruning["family"]], "criterion", str(pruning["criterion"])),
        (AGENTS, "agent", agent),
        (SCHEDULES, "schedule", str(options.get("schedule", "one_shot"))),
    ]
    found = [(text, registry) for registry, kind, text in chosen if text != _COMMON[kind]]
    if not _is_own(pruning):
        found.append((str(pruning["recovery"]), RECOVERIES))
    for section in ("train", "finetune"):
        found += [(str(text), PENALTIES) for text in options.get(section, {}).get("penalties", ())]
    return [(text, registry, choose(registry, text).name) for text, registry in found]


def _is_own(pruning: Mapping[str, Any]) -> bool:
    """Returns whether a recovery goes without saying: the refit has columns of its own."""
    recovery, criterion = str(pruning["recovery"]), choose(CRITERIA[pruning["family"]], str(pruning["criterion"])).name
    if recovery == "once":
        return criterion == "auto" or "grams" in _needs_of(CRITERIA[pruning["family"]], criterion)
    return recovery == "none" or recovery.startswith(REFIT)


def _retraining(options: Mapping[str, Any]) -> list[str]:
    """Returns the settings of the fine-tuning that are a method of their own."""
    settings = options.get("finetune", {})
    return [f"{key}={settings[key]}" for key, usual in _RETRAINING.items() if settings.get(key, usual) != usual]


def _default(pruning: Mapping[str, Any]) -> str:
    return "elimination" if pruning["family"] == "filter" else "obs"


def _papers(parts: Sequence[tuple[str, Registry[Any], str]], retraining: Sequence[str]) -> str:
    """Returns the first arXiv number in each part's docstring, as a link."""
    found = [_ARXIV.search(_documented(registry, name)) for _, registry, name in parts]
    numbers = [number[1] for number in found if number is not None] + ["1506.02626"] * bool(retraining)
    return ", ".join(f"[{number}](https://arxiv.org/abs/{number})" for number in dict.fromkeys(numbers)) or "-"


def _documented(registry: Registry[Any], name: str) -> str:
    if name not in registry.names():  # own code: a file that names it does not have it imported
        return ""
    factory: Callable[..., Any] = registry.get(name)
    return f"{factory.__doc__} {getattr(factory, 'plan', factory).__doc__}"


def _needs(parts: Sequence[tuple[str, Registry[Any], str]]) -> str:
    """Returns the data that a method needs in addition to the weights."""
    needs: set[str] = set()
    for _, registry, name in parts:
        if registry in CRITERIA.values():
            needs |= _needs_of(registry, name)
        elif registry is PENALTIES:
            needs.add("training")
    return ", ".join(sorted(needs)) or "weights"


def _needs_of(registry: Registry[Any], criterion: str) -> set[str]:
    return set(getattr(registry.get(criterion), "needs", ())) if criterion in registry.names() else set()
