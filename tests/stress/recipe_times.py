"""Computes how long the steps of a configuration take on one device and on several, from two measured speeds.

    python tests/stress/recipe_times.py imagenet_resnet50                          # measures on the device that is here
    python tests/stress/recipe_times.py imagenet_resnet50 --training 900 --scoring 2500    # images/s from elsewhere

The hours are computed, not measured. Assumed: data keeps up; trainings are shared, and nothing else is; an exchange of
gradients adds its time to every step; statistics of batch norms take nothing; agents that are compared are fine-tuned
as well.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from amc.cli.command import Command, make_parser
from amc.cli.named_configs import with_named_configs
from amc.cli.options import add_run_options, run_config
from amc.models import create_model
from amc.pipeline.config import RunConfig
from amc.runtime.device import autocast, resolve_device, resolve_dtype

_SECONDS = 3.0
"""Time that a speed is measured for."""


@dataclass(frozen=True)
class Speeds:
    """What was measured.

    Attributes:
        training: Images a second that a device trains on.
        scoring: Images a second that it scores.
        link: Bytes a second that a device exchanges with the others.
    """

    training: float
    scoring: float
    link: float


def hours(
    config: RunConfig, speeds: Speeds, devices: int, *, images: int, tests: int, parameters: int
) -> dict[str, float]:
    """Returns the hours of each step of a run.

    Args:
        config: The configuration, with epochs, batch size and search images set.
        speeds: What was measured.
        devices: How many devices share the trainings.
        images: Training images, without those of the search.
        tests: Test images.
        parameters: Of the dense network; the smaller ones' are taken for as many.
    """
    finetune, held = config.finetune, config.data.search_images or 0
    assert finetune.epochs is not None
    assert finetune.batch_size is not None
    networks = 1 + len(config.compare)
    exchange = 2 * (devices - 1) / devices * 4 * parameters / speeds.link  # each sends and gets the others' parts
    epoch = images / (devices * speeds.training) + images // finetune.batch_size * exchange
    seconds = {
        "test the dense network": tests / speeds.scoring,
        "search": config.episodes * held / speeds.scoring,
        "fine-tune": networks * finetune.epochs * (epoch + held / speeds.scoring),
        "test the networks": 2 * networks * tests / speeds.scoring,
    }
    return {name: value / 3600 for name, value in seconds.items()}


def measured(config: RunConfig, batch: int, device: str) -> tuple[float, float]:
    """Returns how many images a second a device trains on and scores, on images made up for it."""
    place, size = resolve_device(device), config.data.image_size or 224
    model = create_model(config.model, seed=0).to(place, memory_format=torch.channels_last)
    images = torch.rand(batch, 3, size, size, device=place).contiguous(memory_format=torch.channels_last)
    targets = torch.zeros(batch, dtype=torch.int64, device=place)
    dtype = resolve_dtype("auto", place, images.shape[1:])

    def train() -> None:
        with autocast(dtype, place):
            output = model(images)
        functional.cross_entropy(output.float(), targets).backward()

    def score() -> None:
        with torch.inference_mode(), autocast(dtype, place):
            model(images)

    return _speed(train, batch, place), _speed(score, batch, place)


def _speed(run: Callable[[], None], batch: int, place: torch.device) -> float:
    run()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < _SECONDS:
        run()
        count += batch
    if place.type == "cuda":
        torch.cuda.synchronize()
    return count / (time.perf_counter() - start)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a configuration that comes with amc, or a file")
    parser.add_argument("--training", type=float, help="images/s of training on one device; measured here if not given")
    parser.add_argument("--scoring", type=float, help="images/s of scoring on one device; likewise")
    parser.add_argument("--link", type=float, default=100.0, help="GB/s between devices (100)")
    parser.add_argument("--devices", type=int, default=8, help="devices of the second column (8)")
    parser.add_argument("--images", type=int, default=1_281_167, help="training images (ImageNet's)")
    parser.add_argument("--tests", type=int, default=50_000, help="test images (ImageNet's)")
    parser.add_argument("--batch", type=int, default=64, help="batch of the measurement (64)")
    parser.add_argument("--device", default="auto", help="device of the measurement (auto)")
    options = parser.parse_args()
    command = Command(lambda parser: add_run_options(parser, shares_trainings=True), lambda options: None, "")
    config = run_config(make_parser("compress", command).parse(with_named_configs(["--config", options.config])))
    source = "given"
    if options.training is None or options.scoring is None:
        options.training, options.scoring = measured(config, options.batch, options.device)
        source = f"measured on {resolve_device(options.device)}, {torch.get_num_threads()} threads"
    speeds = Speeds(options.training, options.scoring, options.link * 1e9)
    parameters = sum(parameter.numel() for parameter in create_model(config.model, seed=0).parameters())
    sizes = {"tests": options.tests, "parameters": parameters}
    images = options.images - (config.data.search_images or 0)
    one, several = (hours(config, speeds, count, images=images, **sizes) for count in (1, options.devices))
    print(
        f"{options.config}: computed from {speeds.training:.0f} images/s of training, {speeds.scoring:.0f} of scoring"
    )
    print(f"({source}), and {options.link:g} GB/s between devices\n")
    print(f"| step | hours on 1 device | on {options.devices} |\n| --- | ---: | ---: |")
    for name, value in one.items():
        print(f"| {name} | {value:.2f} | {several[name]:.2f} |")
    print(f"| in all | {sum(one.values()):.1f} | {sum(several.values()):.1f} |")


if __name__ == "__main__":
    main()
