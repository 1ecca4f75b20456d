"""Measures one row of the table in docs/latency.md: how a network meets a bound on its time, with random weights.

    python tests/stress/latency_row.py --model mobilenet_v2
    python tests/stress/latency_row.py --model vit_b_16 --rounds 4
    python tests/stress/latency_row.py --model mobilenet_v2 --engine torch

The profile is that of `amc profile` with the same options; a file that is there (`--profile`) is continued, or used as
it is. The allocation is the uniform one, accepted as `amc compress` does, and then measured three more times; beside it
stand the uniform allocations at half the FLOPs. All times are in turn with the dense network's.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import nn

from agents.heuristics.uniform import Uniform
from amc.costs import Budget
from amc.latency.check import check_line
from amc.latency.networks import network_with
from amc.latency.plan import plan_networks
from amc.latency.profiling import Timer, begin_profile, measure_profile, timer_for
from amc.latency.target import LatencyTarget
from amc.models import create_model, example_input_shape
from amc.pipeline.acceptance import accept
from amc.pipeline.prepare import prepare
from amc.pipeline.task import Task, build_problem
from amc.pruning import PruningConfig
from amc.runtime.blocks import settled
from amc.training import FineTuneConfig

_ROUNDS = 40
"""How often a network is timed, as in `amc compress`."""
_AGAIN = 3


def main() -> None:
    """Measures and prints a row."""
    options = _options()
    torch.set_num_threads(1)
    model = create_model(options.model, seed=0).eval()
    shape = [int(size) for size in options.shape.split(",")] if options.shape else example_input_shape(options.model)
    example = torch.zeros(1, *shape)
    path = Path(options.profile or f"{options.model}-{options.engine}.json")
    seconds = profile(model, example, path, options)
    target = LatencyTarget.read(path, insist=True)
    print(f"dense {target.profile.dense_ms:.1f} ms; {check_line(dict(target.check))}")
    words = "{:.1f} min of processor time, {:.1f} on the clock, for what was left to measure"
    print(f"profile: {words.format(*(spent / 60 for spent in seconds))}", flush=True)
    budget = Budget(latency=options.share, profile=str(path))
    task = prepare(
        model, None, budget, pruning=PruningConfig(), finetune=FineTuneConfig(epochs=0), example_input=example,
        evaluate=lambda network: 0.0, device="cpu", latency=target,
    )  # fmt: skip
    timer = timer_for(options.engine, model, task.structure, example, options.batch, 1)
    print(met(task, timer, options.share), flush=True)
    print(half_the_flops(task, timer, options.share), flush=True)


def profile(model: nn.Module, example: torch.Tensor, path: Path, options: argparse.Namespace) -> tuple[float, float]:
    """Measures a profile as `amc profile` does.

    Returns:
        Seconds of processor time and of wall time that it took, those of an earlier start not included.
    """
    pruning = PruningConfig(round_to=settled("auto", torch.device("cpu")))
    task = prepare(
        model, None, None, pruning=pruning, finetune=FineTuneConfig(epochs=0), example_input=example,
        evaluate=lambda network: 0.0, device="cpu",
    )  # fmt: skip
    plan = plan_networks(task.problem, checks=options.checks)
    timer = timer_for(options.engine, model, task.structure, example, options.batch, 1)
    began = begin_profile(options.model, task.problem, plan, timer.describe(), options.batch, options.rounds)
    start = time.process_time(), time.perf_counter()
    measure_profile(began, plan, lambda widths: network_with(model, task.structure, widths), timer, path, _say)
    return time.process_time() - start[0], time.perf_counter() - start[1]


def met(task: Task, timer: Timer, share: float) -> str:
    """Returns what the network that a bound on time accepts takes, and takes again."""
    problem = task.problem
    found = accept(task, problem.allocation(Uniform().widths(problem)), timer)
    assert found is not None
    assert found.measured is not None
    network = network_with(task.model, task.structure, found.allocation.widths)
    again = ", ".join(f"{timer.compare(network, _ROUNDS)['ratio']:.3f}" for _ in range(_AGAIN))
    steps = f"after {found.steps} steps, {found.predicted:.3f} predicted"
    return f"time {share:g}: {found.measured:.3f} accepted ({steps}), again {again}" + (
        f"; {found.note}" * bool(found.note)
    )


def half_the_flops(task: Task, timer: Timer, share: float) -> str:
    """Returns what uniform allocations with a share of the FLOPs take, by how widths are rounded."""
    words = []
    for title, round_to in (("free", 1), ("8", 8), ("auto", task.pruning.round_to)):
        problem = build_problem(task.structure, Budget(flops=share), PruningConfig(round_to=round_to))
        widths = problem.allocation(Uniform().widths(problem)).widths
        ratio = timer.compare(network_with(task.model, task.structure, widths), _ROUNDS)["ratio"]
        words.append(f"{title} {ratio:.3f}")
    return f"FLOPs {share:g}: {', '.join(words)}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--engine", default="onnxruntime", choices=("onnxruntime", "torch"))
    parser.add_argument("--rounds", type=int, default=20, help="as in amc profile (20)")
    parser.add_argument("--checks", type=int, default=24, help="as in amc profile (24)")
    parser.add_argument("--batch", type=int, default=1, help="as in amc profile (1)")
    parser.add_argument("--share", type=float, default=0.5, help="of the time, and of the FLOPs (0.5)")
    parser.add_argument("--shape", help="of one image, such as 3,224,224; unset: what the network is made for")
    parser.add_argument("--profile", help="file of the profile; unset: MODEL-ENGINE.json")
    return parser.parse_args()


def _say(share: float, note: str = "") -> None:
    print(f"\rprofile {share:.0%} {note}", end="" if share < 1 else "\n", flush=True)


if __name__ == "__main__":
    main()
