"""Small runs of the commands that keep a folder, and what must be the same at their end."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = (
    "--data.train_images", "60", "--data.search_images", "20", "--data.calibration_images", "16",
    "--data.test_images", "20", "--train.epochs", "1", "--device", "cpu", "--pruning.recovery", "none",
    "--pruning.recalibration_images", "4",
)  # fmt: skip
"""Options that make a run quick without leaving out a stage that writes files."""
AGENTS = (
    "ddpg:warmup_episodes=2;gradient_steps=2;hidden=[8,8];ensemble=2;ensemble_hidden=8;proposals=4",
    "random",
    "cem",
)
CRITERIA = {"filter": "l2", "weight": "magnitude"}
SMALL = "ddpg:hidden=[8, 8];ensemble_hidden=8;gradient_steps=1;warmup_episodes=2;warm_start=[uniform]"
FAMILIES = ("filter", "weight")
SCRATCH = "SCRATCH"
"""Stands in a job's words for the folder with what it starts from."""
_TIMES = ("seconds", "images_per_second", "latency_ms")
"""How names end whose values are measured times."""
_SLOWER = "the smaller network is not faster"
"""Begins a note that a measured latency makes."""


@dataclass(frozen=True)
class Job:
    """A command that is killed and resumed.

    Attributes:
        name: For the table.
        words: The command line without `--out`.
        before: Command lines that make what it starts from; `SCRATCH` in a word is a folder for that.
    """

    name: str
    words: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()

    @property
    def is_study(self) -> bool:
        """Whether the same command resumes it, and not `--resume`."""
        return self.words[0] in ("study", "train")

    def within(self, scratch: Path) -> Job:
        """Returns the job with the name of the folder in place of `SCRATCH`."""
        first, *others = (
            tuple(word.replace(SCRATCH, str(scratch)) for word in words) for words in (self.words, *self.before)
        )
        return Job(self.name, first, tuple(others))


def all_jobs() -> list[Job]:
    """Returns the jobs: every command, family and agent."""
    jobs = []
    for family in FAMILIES:
        common = (*DATA, "--pruning.family", family, "--pruning.criterion", CRITERIA[family])
        for agent in AGENTS:
            search = (*common, "--agent", agent, "--episodes", "4", "--untrained", "true")
            tuned = ("--finetune.epochs", "2", "--compare", "uniform" if agent != "random" else "cem:population=2")
            name = agent.partition(":")[0]
            jobs.append(Job(f"compress, {family}, {name}", ("compress", *search, *tuned)))
            jobs.append(Job(f"search, {family}, {name}", ("search", *search)))
        tuned = ("--finetuned", "0.5", "--finetune.epochs", "1", "--seeds", "0", "--counts", "3")
        jobs.append(Job(f"study, {family}", ("study", *common, "--agents", *AGENTS, *tuned)))
        rules = ("--episodes", "10", "--evaluate_every", "4", "--checkpoint_every", "3", "--budgets", "0.7", "0.5")
        train = ("train", *common, *rules, "--agent", SMALL)
        jobs.append(Job(f"train, {family}", train))
        jobs += _steps(family, common, train)
    return jobs


def _steps(family: str, common: tuple[str, ...], train: tuple[str, ...]) -> list[Job]:
    """Returns the jobs that start from what others have made."""
    searched, pruned, trained = (f"{SCRATCH}/{name}" for name in ("searched", "pruned", "trained"))
    agent = ("--agent", "random", "--untrained", "true")
    search = ("search", *common, *agent, "--episodes", "2", "--out", searched)
    prune, tuned = ("prune", searched), ("--finetune.epochs", "2", "--finetune.keep", "last")
    policy = (*common, "--policy", f"{trained}/agent.safetensors", "--episodes", "1", "--untrained", "true")
    return [
        Job(f"prune, {family}", prune, (search,)),
        Job(f"finetune, {family}", ("finetune", pruned, *tuned), (search, (*prune, "--out", pruned))),
        Job(f"policy, {family}", ("compress", *policy, *tuned), ((*train, "--out", trained),)),
    ]


@dataclass(frozen=True)
class End:
    """How a process ended.

    Attributes:
        status: What `amc` returned; -1 where it raised.
        error: What it wrote to stderr.
    """

    status: int
    error: str

    @property
    def is_refusal(self) -> bool:
        """Whether it was one line and no traceback."""
        last = self.error.strip().splitlines()[-1:]
        return self.status == 2 and "Traceback" not in self.error and bool(last) and last[0].startswith("amc: error: ")


def in_child(work: Callable[[], Any]) -> Any:
    """Does some work in a forked process, and returns what it returned, which must be JSON-able."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = json.dumps(work())
        except BaseException:
            answer = json.dumps({"failed": traceback.format_exc()})
        with os.fdopen(writing, "w") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return json.loads(answer)


def run(words: list[str]) -> End:
    """Runs a command line in a process of its own."""

    def work() -> list[Any]:
        from amc.cli.main import main

        error = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(error):
            try:
                status = main(words)
            except BaseException:
                status = -1
                error.write(traceback.format_exc())
        return [status, error.getvalue()]

    answer = in_child(work)
    return End(-1, answer["failed"]) if isinstance(answer, dict) else End(*answer)


def resume(job: Job, folder: Path) -> End:
    """Carries a job on as its user would: with `--resume`, or afresh where that is what the message says."""
    words = [*job.words, "--out", str(folder)]
    if job.is_study or not folder.exists():
        return run(words)
    end = run([job.words[0], "--resume", "--out", str(folder)])
    fresh = "start it again, without --resume" in end.error or "must hold a run, but has no config.yaml" in end.error
    return run(words) if end.is_refusal and fresh else end


def results(folder: Path) -> dict[str, Any]:
    """Returns what a finished job has in its folder, times left out."""
    from amc.utils.json_lines import read_lines

    found: dict[str, Any] = {}
    for name in ("policy.json", "architecture.json", "summary.json", "agent.json"):
        if (folder / name).is_file():
            found[name] = _without_times(json.loads((folder / name).read_text()))
    for name in ("episodes.jsonl", "study.jsonl", "training.jsonl", "evaluations.jsonl"):
        if (folder / name).is_file():
            found[name] = _without_times(read_lines(folder / name).records)
    for name in ("model.safetensors", "dense.safetensors", "agent.safetensors", "checkpoint.safetensors"):
        if (folder / name).is_file():
            found[name] = (folder / name).read_bytes().hex()
    for name in ("study.md", "config.yaml"):
        if (folder / name).is_file():
            found[name] = (folder / name).read_text()
    return found


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_times(item) for name, item in value.items() if not name.endswith(_TIMES)}
    if isinstance(value, list):
        return [_without_times(item) for item in value if not (isinstance(item, str) and _SLOWER in item)]
    return value


def quicken() -> None:
    """Spares the processes to be forked what takes long and writes nothing else: digits, parsers, plots, timings."""
    import matplotlib.figure

    import amc.pipeline.speed
    from amc.cli.command import make_parser
    from amc.cli.commands import COMMANDS
    from amc.data import DataConfig, load_data

    def savefig(figure: object, file: Any, **options: object) -> None:
        if hasattr(file, "write"):
            file.write(b"<svg></svg>")
        else:
            Path(file).write_bytes(b"<svg></svg>")

    matplotlib.figure.Figure.savefig = savefig  # type: ignore[assignment, method-assign]
    load_data(DataConfig())  # of which a process keeps the digits
    for name in ("compress", "search", "study", "train", "evaluate", "prune", "finetune", "zoo"):
        make_parser(name, COMMANDS.get(name))  # which is kept
    amc.pipeline.speed._ROUNDS = 1


def warm_up() -> None:
    """Imports all that the jobs import, for forked processes; computes nothing, as threads do not survive a fork.

    What they import is learnt from one of them, which runs in a child.
    """
    import torch

    import amc.cli.main

    torch.set_num_threads(1)
    sys.argv[0] = "amc"

    def work() -> list[str]:
        for job in (all_jobs()[0], next(job for job in all_jobs() if job.is_study)):
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
                with contextlib.redirect_stdout(io.StringIO()):
                    status = amc.cli.main.main([*job.words, "--out", str(Path(folder) / "run")])
                assert status == 0, job
        return list(sys.modules)

    names = in_child(work)
    assert isinstance(names, list), names
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    quicken()
