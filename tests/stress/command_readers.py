"""Commands that read files from elsewhere: a run of each, and the file of it that is changed.

They are tried by `fuzz.py` alone: a command takes ten times as long as the reader that it calls.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import mutations
from readers import Reader, agent_file, zoo_file

import amc.cli.main
from amc.errors import AmcError

_SMALL = (
    "--data.train_images", "40", "--data.search_images", "10", "--data.calibration_images", "10",
    "--data.test_images", "10", "--train.epochs", "0", "--device", "cpu", "--pruning.recovery", "none",
    "--pruning.criterion", "l2", "--pruning.recalibration_images", "0",
)  # fmt: skip
_SEARCH = ("search", *_SMALL, "--agent", "random", "--episodes", "2")
_COMPRESS = ("compress", *_SMALL, "--agent", "uniform", "--compare", "[]", "--finetune.epochs", "0")
_COMPARED = ("compress", *_SMALL, "--agent", "uniform", "--compare", "erk", "--finetune.epochs", "0")


def run(words: Sequence[str]) -> None:
    """Runs a command line.

    Raises:
        AmcError: If it was refused in one line.
        AssertionError: If it ended in any other way.
    """
    error = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(error):
        status = amc.cli.main.main(list(words))
    *_, last = ["", *error.getvalue().strip().splitlines()]
    if status == 2 and last.startswith("amc: error: ") and "Traceback" not in error.getvalue():
        raise AmcError(last)
    assert status == 0, f"status {status}: {error.getvalue()}"


def _finished(words: Sequence[str], name: str) -> Callable[[Path], Path]:
    """Returns what makes a run, and names the file of it that is changed."""

    def prepare(folder: Path) -> Path:
        run([*words, "--out", str(folder / "run")])
        shutil.rmtree(folder / "run" / "tensorboard", ignore_errors=True)
        begun = json.loads((folder / "run" / "run.json").read_text())  # without the digests that refuse every change
        (folder / "run" / "run.json").write_text(json.dumps({**begun, "written": {}}))
        return folder / "run" / name

    return prepare


def _command(*words: str) -> Callable[[Path], None]:
    """Returns what runs a command in a folder; `{}` in its words is the folder."""
    return lambda folder: run([word.replace("{}", str(folder)) for word in words])


def _reader(
    name: str, words: Sequence[str], file: str, mutate: Callable[[Path, random.Random], None], *command: str
) -> Reader:
    return Reader(name, _finished(words, file), mutate, _command(*command))


def _options(folder: Path) -> Path:
    words = dict(zip(_SMALL[::2], _SMALL[1::2], strict=True))
    sections: dict[str, list[str]] = {}
    for name, value in words.items():
        section, _, option = name.removeprefix("--").rpartition(".")
        sections.setdefault(section, []).append(f"{option}: {value}")
    lines = [*sections.pop("", ()), "agent: random", "episodes: 2"]
    for section, options in sections.items():
        lines += [f"{section}:", *(f"  {option}" for option in options)]
    (folder / "options.yaml").write_text("\n".join(lines) + "\n")
    return folder / "options.yaml"


_RESUME = ("search", "--resume", "--out", "{}/run")
_PRUNE = ("prune", "{}/run", "--out", "{}/pruned")
_STUDY = ("study", *_SMALL, "--agents", "random", "--counts", "2", "--seeds", "0", "--out", "{}/study", "--transfer")
COMMAND_READERS = (
    _reader("amc evaluate: architecture.json", _COMPRESS, "architecture.json", mutations.mutate_json,
            "evaluate", "{}/run"),
    _reader("amc evaluate: model.safetensors", _COMPRESS, "model.safetensors", mutations.mutate_safetensors,
            "evaluate", "{}/run"),
    _reader("amc evaluate: config.yaml", _COMPRESS, "config.yaml", mutations.mutate_yaml, "evaluate", "{}/run"),
    _reader("amc prune: policy.json", _SEARCH, "policy.json", mutations.mutate_json, *_PRUNE),
    _reader("amc search --resume: episodes.jsonl", _SEARCH, "episodes.jsonl", mutations.mutate_lines, *_RESUME),
    _reader("amc compress --resume: progress.json", _COMPARED, "progress.json", mutations.mutate_json,
            "compress", "--resume", "--out", "{}/run"),
    _reader("amc search --resume: run.json", _SEARCH, "run.json", mutations.mutate_json, *_RESUME),
    Reader("amc search --config", _options, mutations.mutate_yaml,
           _command("search", "--config", "{}/options.yaml", "--out", "{}/run")),
    Reader("amc zoo --results", zoo_file, mutations.mutate_lines,
           _command("zoo", "--table_only", "--results", "{}/zoo.jsonl", "--out", "{}/zoo.md")),
    Reader("amc study --transfer", agent_file, mutations.mutate_safetensors, _command(*_STUDY, "{}/agent.safetensors")),
)  # fmt: skip
