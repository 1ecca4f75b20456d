"""Whether the first stage of a search may run on smaller images: how candidates rank there, and what that saves.

    python tests/stress/first_stage_resolution.py --data DIR --weights FILE --model mobilenet_v1 --image_size 224

Random allocations at half the FLOPs are scored on all held-out images at full size, and on the first of them at several
sizes. Kendall's tau compares the rankings. Batch norms are re-estimated on the first images, at the size of the stage.
"""

from __future__ import annotations

import time

import numpy as np
from half_the_flops import parser_of, random_allocations, task_of
from torch.nn.functional import interpolate

from amc.pipeline.families import FilterFamily
from amc.pruning import CandidateNetwork, CandidateScorer, PruningConfig
from amc.runtime import resolve_device, resolve_dtype
from amc.study.rewards import kendall
from amc.training import score_logits

RENEWED = 50
"""Images on which batch norms are re-estimated."""


def main() -> None:
    """Scores the candidates and prints a table."""
    parser = parser_of(__doc__)
    parser.add_argument("--candidates", type=int, default=40)
    parser.add_argument("--images", type=int, nargs="+", default=[100, 200], help="images of the first stage")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 160, 112], help="in pixels")
    options = parser.parse_args()
    task = task_of(options, 100, PruningConfig(round_to=1))
    family = FilterFamily(task)
    assert task.data is not None
    search = task.data.search
    allocations = random_allocations(task.problem, options.candidates)
    network = CandidateNetwork(family._pruner, dtype=resolve_dtype("auto", resolve_device("cpu")))

    def accuracies(size: int, count: int) -> tuple[np.ndarray, float]:
        images = search.images[:count]
        if size != images.shape[-1]:
            images = interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True).to(images.dtype)
        scorer = CandidateScorer(
            network, images, search.targets[:count], score_logits, recalibrated=RENEWED, change=search.normalised
        )
        began = time.process_time()
        found = np.array([scorer(allocation).accuracy for allocation in allocations])
        return found, (time.process_time() - began) / len(allocations)

    full, total = search.images.shape[-1], len(search.targets)
    reference, seconds = accuracies(full, total)
    print(f"{len(allocations)} candidates, accuracy {reference.min():.1f} to {reference.max():.1f}\n")
    print("| size | images | tau with all images at full size | accuracy, mean | s a candidate |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    print(f"| {full} | {total} | | {reference.mean():.2f} | {seconds:.3f} |", flush=True)
    for count in options.images:
        for size in options.sizes:
            found, seconds = accuracies(size, count)
            tau = kendall(found, reference)
            print(f"| {size} | {count} | {tau:.3f} | {found.mean():.2f} | {seconds:.3f} |", flush=True)


if __name__ == "__main__":
    main()
