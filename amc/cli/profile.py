"""`amc profile`: the latency of the networks that a network can become, on a device."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import jsonargparse

from amc.cli.command import Command
from amc.cli.options import WITHOUT_SEARCH, add_run_options, run_config
from amc.errors import ConfigurationError, UnknownNameError
from amc.utils.printable import printable

_UNUSED = (
    *WITHOUT_SEARCH,
    "finetune",
    "device",
    "budget",
    "weights",
    "deterministic",
    "pruning.family",
    "pruning.criterion",
    "pruning.recovery",
    "pruning.recalibration_images",
    "pruning.pattern",
)


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Adds the options for the networks, and for how they are measured."""
    add_run_options(parser, hide=_UNUSED)
    add = parser.add_argument
    add(
        "--engine",
        metavar="NAME",
        type=str,
        default="onnxruntime",
        help="What runs the networks, on the CPU: onnxruntime or torch.",
    )
    add("--threads", metavar="N", type=int, default=1, help="Threads of the engine.")
    add("--batch", metavar="N", type=int, default=1, help="Inputs in one run.")
    add("--rounds", metavar="N", type=int, default=20, help="How often each network is timed, in turn with the dense.")
    add(
        "--networks",
        metavar="N",
        type=int | None,
        default=None,
        help="Networks to fit the latency model to; unset: 40, or 12 more than there are decisions.",
    )
    add("--checks", metavar="N", type=int, default=24, help="Unseen networks to check the latency model on.")
    add(
        "--shape",
        type=str | None,
        default=None,
        metavar="C,H,W",
        help="Shape of one input image, such as 3,32,32; unset: what the model is made for, or the data's.",
    )
    add(
        "--out",
        metavar="FILE",
        type=str,
        default="profile.json",
        help="File to write; an unfinished one is continued.",
    )
    add(
        "--prepare",
        metavar="DIR",
        type=str | None,
        default=None,
        help="Measure nothing; write the networks and a script for another device into this folder.",
    )


def run(options: jsonargparse.Namespace) -> None:
    """Measures a profile, or writes what another device needs to do so.

    Raises:
        AmcError: If an option, the network or a file cannot be used.
    """
    from amc.cli.setup import build_model, display, example_for
    from amc.latency.check import check_line, doubt_of
    from amc.latency.networks import network_with
    from amc.latency.plan import plan_networks
    from amc.latency.profile_file import ENGINES
    from amc.latency.profiling import (
        begin_profile,
        measure_profile,
        prepare_folder,
        slowed,
        timer_for,
    )
    from amc.pipeline.task import build_problem
    from amc.report.origin import RunInterrupted
    from amc.runtime.threads import computing_with
    from amc.tracing.trace import trace_structure

    _check(options, ENGINES)
    config = run_config(options)
    example, classes = example_for(config, options.shape)
    shown = display(options)
    model, _ = build_model(config, classes, shown)
    structure = trace_structure(model.eval(), example)
    problem = build_problem(structure, None, config.pruning)
    plan = plan_networks(problem, fitted=options.networks, checks=options.checks, seed=config.seed)
    if options.prepare is not None:
        with shown.stage("write networks", len(plan), "networks") as advance:
            prepare_folder(
                Path(options.prepare), config.model, problem, plan, model, structure, example, options.batch, advance
            )
        print(f"Copy {options.prepare} to the device, run 'python measure.py' in it, and bring profile.json back.")
        return
    with computing_with(options.threads):
        timer = timer_for(options.engine, model, structure, example, options.batch, options.threads)
        profile = begin_profile(config.model, problem, plan, timer.describe(), options.batch, options.rounds)
        with shown.stage("profile", len(plan), "networks") as advance:
            network_of, out = partial(network_with, model, structure), Path(options.out)
            try:
                profile = measure_profile(profile, plan, network_of, timer, out, advance)
            except KeyboardInterrupt as stop:
                raise RunInterrupted(f"the same command continues {out}" if out.exists() else "") from stop
    where = printable(f"{profile.engine}, dense {profile.dense_ms:.3g} ms ({profile.processor})")
    print(f"{options.out}: {config.model} in {where}")
    print(check_line(profile.check))
    if (doubt := doubt_of(profile.check)) is not None:
        print(f"amc compress will refuse it: {doubt}")
    if (note := slowed(profile)) is not None:
        print(note)


def _check(options: jsonargparse.Namespace, engines: tuple[str, ...]) -> None:
    """Rejects wrong options before work starts."""
    if options.engine not in engines:
        raise UnknownNameError("engine", options.engine, engines)
    for name in ("threads", "batch", "rounds"):
        if getattr(options, name) < 1:
            raise ConfigurationError(f"--{name} must be at least 1, not {getattr(options, name)}")
    if options.prepare is not None and options.engine != "onnxruntime":
        raise ConfigurationError("--prepare writes networks for onnxruntime; leave out --engine")


COMMAND = Command(
    add_arguments,
    run,
    description=(
        "Measures, operator by operator, the latency of the networks that a network can become, on this machine or\n"
        "(--prepare) on another one, and checks the predictions on networks that it has not seen.\n"
        "Use the file with 'amc compress --budget.latency 0.5 --budget.profile FILE'."
    ),
    examples=(
        "  amc profile --model mobilenet_v2 --out mobilenet_v2.json\n"
        "  amc profile --model resnet18 --engine torch --out resnet18.json\n"
        "  amc profile --model resnet50 --prepare phone"
    ),
)
