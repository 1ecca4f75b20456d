"""What measurements share: a trained network on images that a user has at half the FLOPs, and allocations for it."""

from __future__ import annotations

import argparse

import numpy as np

from amc.costs import Budget
from amc.data import DataConfig, load_data
from amc.models import create_model
from amc.models.weights import load_weights
from amc.pipeline.prepare import prepare
from amc.pipeline.task import Task
from amc.problem import PruningProblem
from amc.pruning import PruningConfig
from amc.structure import Allocation
from amc.training import FineTuneConfig


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the options that say which network and which images."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="an image folder of CIFAR-10")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--search_images", type=int, default=2000)
    parser.add_argument("--image_size", type=int, help="to which images are resized; unset: as they are")
    return parser


def task_of(options: argparse.Namespace, calibration_images: int, pruning: PruningConfig) -> Task:
    """Returns the task, without fine-tuning; of resized images, which are large, no more are read than it needs."""
    model = create_model(options.model, num_classes=10)
    load_weights(model, options.weights)
    config = DataConfig(
        name="imagefolder",
        root=options.data,
        search_images=options.search_images,
        calibration_images=calibration_images,
        image_size=options.image_size,
        train_images=options.image_size and options.search_images + calibration_images + 100,
    )
    budget, finetune = Budget(flops=0.5), FineTuneConfig(epochs=0)
    return prepare(model.eval(), load_data(config), budget, pruning=pruning, finetune=finetune, seed=0)


def random_allocations(problem: PruningProblem, count: int) -> list[Allocation]:
    """Returns allocations on the budget, drawn at random with a fixed seed."""
    random = np.random.default_rng(0)
    asked = [random.uniform(0.1, 1.0, len(problem.decisions)).tolist() for _ in range(count)]
    return [problem.allocation(problem.project(request)) for request in asked]
