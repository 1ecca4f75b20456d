"""One network, one budget, no training: Torch-Pruning and ModelOpt FastNAS beside amc, measured by the same function.

    pip install torch-pruning nvidia-modelopt torchprofile==0.0.4
    python docs/comparison/peers.py --data DIR --weights resnet20.th --budget 0.5 --markdown

DIR holds CIFAR-10 as `train/CLASS/*.png` and `test/CLASS/*.png`. All score on the same search images and take
statistics from the same calibration images; a tool that is not installed is left out, and a line says so.
"""

from __future__ import annotations

import argparse
import copy
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import amc
from amc.costs.metrics import counted
from amc.data import DataConfig, DataRoles, load_data
from amc.training import evaluate


def main() -> None:
    """Prints one row a method."""
    options = parse()
    if options.markdown:
        print("| network | top-1 | batch norms re-estimated | FLOPs |\n| --- | --- | --- | --- |", flush=True)
    model = amc.create_model("resnet20")
    amc_weights(model, options.weights)
    data = load_data(
        DataConfig(
            name="imagefolder", root=options.data, train_images=options.train_images, test_images=options.test_images,
            search_images=options.search_images, calibration_images=options.calibration_images,
        )
    )  # fmt: skip
    example = data.test.take([0]).inputs()
    dense = counted(model, example)["flops"]
    print_row(options.markdown, "dense", accuracy(model, data), None, dense)
    limit = dense * options.budget
    peers = {
        "Torch-Pruning, L1 norms, every layer alike": lambda: by_norms(model, example, limit),
        "Torch-Pruning, group norms, global": lambda: by_group_norms(model, example, limit),
        "ModelOpt FastNAS": lambda: by_fastnas(model, example, data, options.budget),
    }
    for name, prune in peers.items():
        if name.startswith(tuple(options.without)):
            continue
        try:
            pruned = prune()
        except ImportError as error:
            print(f"{name} is left out, as it is not installed ({error})", file=sys.stderr)
        else:
            report(options.markdown, name, pruned, data, example)
    for agent, episodes in (("uniform", None), ("ddpg", options.episodes)):
        result = amc.compress(
            copy.deepcopy(model), data, amc.Budget(flops=options.budget), agent=agent, episodes=episodes,
            pruning=amc.PruningConfig(round_to=1), finetune=amc.FineTuneConfig(epochs=0), seed=0,
        )  # fmt: skip
        report(options.markdown, f"amc, {agent}", result.model, data, example)


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--budget", type=float, default=0.5)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--train_images", type=int)
    parser.add_argument("--test_images", type=int)
    parser.add_argument("--search_images", type=int, default=2000)
    parser.add_argument("--calibration_images", type=int, default=2000)
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/which_tool.md")
    parser.add_argument("--without", nargs="*", default=[], help="tools to leave out, by the beginning of their names")
    return parser.parse_args()


def amc_weights(model: nn.Module, file: str) -> None:
    """Loads the weights as `amc --weights` does."""
    from pathlib import Path

    from amc.models.weights import load_weights

    load_weights(model, Path(file))
    model.eval()


def by_norms(model: nn.Module, example: torch.Tensor, limit: float) -> nn.Module:
    """Prunes every layer alike, by the L1 norms of its filters."""
    import torch_pruning

    return by_torch_pruning(model, example, torch_pruning.importance.MagnitudeImportance(p=1), limit, is_global=False)


def by_group_norms(model: nn.Module, example: torch.Tensor, limit: float) -> nn.Module:
    """Prunes all layers by one ranking, by the norms of groups."""
    import torch_pruning

    importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
    return by_torch_pruning(model, example, importance, limit, is_global=True)


def by_torch_pruning(
    model: nn.Module, example: torch.Tensor, importance: object, limit: float, *, is_global: bool
) -> nn.Module:
    """Prunes by the smallest ratio of channels, in steps of a hundredth, that meets the limit of FLOPs."""
    import torch_pruning

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


def by_fastnas(model: nn.Module, example: torch.Tensor, data: DataRoles, budget: float, divisor: int = 4) -> nn.Module:
    """Searches widths that are multiples of a divisor; candidates are scored on the search images."""
    from modelopt.torch import prune

    config = prune.fastnas.FastNASConfig()
    config["nn.Conv2d"]["*"]["channel_divisor"] = divisor
    config["nn.BatchNorm2d"]["*"]["feature_divisor"] = divisor
    images = data.calibration.inputs()
    loader = DataLoader(TensorDataset(images, torch.zeros(len(images), dtype=torch.long)), batch_size=250)
    pruned, _ = prune.prune(
        copy.deepcopy(model),
        mode=[("fastnas", config)],
        constraints={"flops": f"{100 * budget:g}%"},
        dummy_input=example,
        config={
            "data_loader": loader,
            "score_func": lambda candidate: evaluate(candidate, data.search).accuracy,
            "verbose": False,
        },
    )
    network: nn.Module = pruned
    return network.eval()


def print_row(markdown: bool, name: str, plain: float, renewed: float | None, flops: float) -> None:
    """Prints what a network costs and is worth, as soon as it is known: as a line, or as a row of Markdown."""
    again = "" if renewed is None else f"{renewed:.2f}"
    if markdown:
        print(f"| {name} | {plain:.2f} | {again} | {flops:,} |", flush=True)
    else:
        print(f"{name}: {plain:.2f}%{again and f' ({again}%)'}, {flops:,} FLOPs", flush=True)


def report(markdown: bool, name: str, model: nn.Module, data: DataRoles, example: torch.Tensor) -> None:
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
    print_row(markdown, name, plain, accuracy(renewed.eval(), data), counted(model, example)["flops"])


def accuracy(model: nn.Module, data: DataRoles) -> float:
    """Returns the test accuracy in percent."""
    return evaluate(model, data.test).accuracy


if __name__ == "__main__":
    main()
