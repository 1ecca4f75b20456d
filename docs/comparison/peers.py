"""One network, one budget, no training: Torch-Pruning beside amc, measured by the same function.

    pip install torch-pruning
    python docs/comparison/peers.py --data DIR --weights resnet20.th --budget 0.5

DIR holds CIFAR-10 as `train/CLASS/*.png` and `test/CLASS/*.png`.
"""

from __future__ import annotations

import argparse
import copy

import torch
import torch_pruning
from torch import nn

import amc
from amc.costs.metrics import counted
from amc.data import DataConfig, DataRoles, load_data
from amc.training import evaluate


def main() -> None:
    """Prints one line a method."""
    options = parse()
    model = amc.create_model("resnet20")
    amc_weights(model, options.weights)
    data = load_data(DataConfig(name="imagefolder", root=options.data))
    example = data.test.take([0]).inputs()
    dense = counted(model, example)["flops"]
    print(f"dense: {accuracy(model, data):.2f}%, {dense:,} FLOPs", flush=True)
    for name, importance, is_global in (
        ("Torch-Pruning, L1 norms, every layer alike", torch_pruning.importance.MagnitudeImportance(p=1), False),
        ("Torch-Pruning, group norms, global", torch_pruning.importance.GroupMagnitudeImportance(p=2), True),
    ):
        pruned = by_torch_pruning(model, example, importance, dense * options.budget, is_global=is_global)
        report(name, pruned, data, example)
    for agent, episodes in (("uniform", None), ("ddpg", options.episodes)):
        result = amc.compress(
            copy.deepcopy(model), data, amc.Budget(flops=options.budget), agent=agent, episodes=episodes,
            pruning=amc.PruningConfig(round_to=1), finetune=amc.FineTuneConfig(epochs=0), seed=0,
        )  # fmt: skip
        report(f"amc, {agent}", result.model, data, example)


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--budget", type=float, default=0.5)
    parser.add_argument("--episodes", type=int, default=100)
    return parser.parse_args()


def amc_weights(model: nn.Module, file: str) -> None:
    """Loads the weights as `amc --weights` does."""
    from pathlib import Path

    from amc.models.weights import load_weights

    load_weights(model, Path(file))
    model.eval()


def by_torch_pruning(
    model: nn.Module, example: torch.Tensor, importance: object, limit: float, *, is_global: bool
) -> nn.Module:
    """Prunes by the smallest ratio of channels, in steps of a hundredth, that meets the limit of FLOPs."""
    for hundredths in range(1, 100):
        pruned = copy.deepcopy(model)
        head = [module for module in pruned.modules() if isinstance(module, nn.Linear)]
        pruner = torch_pruning.pruner.MetaPruner(
            pruned, example, importance=importance, pruning_ratio=hundredths / 100,
            global_pruning=is_global, ignored_layers=head,
        )  # fmt: skip
        pruner.step()
        if counted(pruned, example)["flops"] <= limit:
            return pruned.eval()
    raise SystemExit("no ratio meets the limit")


def report(name: str, model: nn.Module, data: DataRoles, example: torch.Tensor) -> None:
    """Prints what a network costs and is worth, and what it is worth with its batch norms re-estimated."""
    plain = accuracy(model, data)
    renewed = copy.deepcopy(model)
    for module in renewed.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all batches
    renewed.train()
    with torch.no_grad():
        for images in data.calibration.inputs().split(250):
            renewed(images)
    flops = counted(model, example)["flops"]
    print(f"{name}: {plain:.2f}% ({accuracy(renewed.eval(), data):.2f}%), {flops:,} FLOPs", flush=True)


def accuracy(model: nn.Module, data: DataRoles) -> float:
    """Returns the test accuracy in percent."""
    return evaluate(model, data.test).accuracy


if __name__ == "__main__":
    main()
