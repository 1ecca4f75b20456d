"""On how many images batch norms must be re-estimated for candidates to rank as they do with a thousand.

    python tests/stress/recalibration_images.py --data DIR --weights FILE  # ResNet-20, half the FLOPs, 40 candidates

Random allocations are scored on held-out images, with batch norms from many calibration images and from fewer,
in two disjoint draws, and from the first of the images that are scored. Kendall's tau compares the rankings.
"""

from __future__ import annotations

import time

import numpy as np
from half_the_flops import parser_of, random_allocations, task_of

from amc.pipeline.families import FilterFamily
from amc.pruning import CandidateNetwork, CandidateScorer, PruningConfig
from amc.runtime import resolve_device, resolve_dtype
from amc.study.rewards import kendall
from amc.training import score_logits

DRAWS = 2


def main() -> None:
    """Scores the candidates and prints a table."""
    parser = parser_of(__doc__)
    parser.add_argument("--candidates", type=int, default=40)
    parser.add_argument("--images", type=int, nargs="+", default=[10, 25, 50, 100])
    parser.add_argument("--most", type=int, default=1000, help="calibration images with which the others are compared")
    options = parser.parse_args()
    task = task_of(options, options.most, PruningConfig(round_to=1))
    family = FilterFamily(task)
    assert task.data is not None
    search = task.data.search
    allocations = random_allocations(task.problem, options.candidates)
    calibration = task.calibration_inputs()
    assert calibration is not None
    network = CandidateNetwork(family._pruner, dtype=resolve_dtype("auto", resolve_device("cpu")))

    def accuracies(start: int, count: int, shared: int = 0) -> tuple[np.ndarray, float]:
        few = calibration[start : start + count] if count else None
        scorer = CandidateScorer(
            network, search.images, search.targets, score_logits,
            calibration=few, recalibrated=shared, change=search.normalised,
        )  # fmt: skip
        began = time.process_time()
        found = np.array([scorer(allocation).accuracy for allocation in allocations])
        return found, (time.process_time() - began) / len(allocations)

    most, seconds = accuracies(0, options.most)
    print(f"{len(allocations)} candidates, accuracy {most.min():.1f} to {most.max():.1f} with {options.most} images\n")
    print(f"| images | tau with {options.most} images | accuracy, mean | s a candidate |\n| ---: | --- | ---: | ---: |")
    print(f"| {options.most} | | {most.mean():.2f} | {seconds:.3f} |", flush=True)
    for count in (*sorted(options.images, reverse=True), 0):
        draws = [accuracies(draw * count, count) for draw in range(DRAWS if count else 1)]
        taus = ", ".join(f"{kendall(found, most):.3f}" for found, _ in draws)
        mean, spent = np.mean([found.mean() for found, _ in draws]), np.mean([seconds for _, seconds in draws])
        print(f"| {count} | {taus} | {mean:.2f} | {spent:.3f} |", flush=True)
    for count in sorted(options.images, reverse=True):
        found, seconds = accuracies(0, 0, count)
        print(
            f"| the first {count} scored | {kendall(found, most):.3f} | {found.mean():.2f} | {seconds:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
