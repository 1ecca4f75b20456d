"""Readers of files about several runs: the entries of a study, and what `amc train` keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import jsonargparse
import mutations
from agent_readers import trained_policy
from readers import Reader

from amc.cli.command import Parser, make_parser
from amc.cli.commands import COMMANDS
from amc.cli.options import run_config
from amc.cli.study_agents import check_choices, plan_of
from amc.cli.study_entries import read_problems, read_variations
from amc.pipeline.config import RunConfig
from amc.policies.folder import open_training
from amc.policies.training_record import TrainingRecord
from amc.utils.json_lines import line_of


@cache
def _parser() -> Parser:
    return make_parser("study", COMMANDS.get("study"))


def _options(folder: Path, kind: str) -> jsonargparse.Namespace:
    return _parser().parse(["--out", str(folder / "study"), kind, str(folder / "entries.yaml")])


def _entries(text: str) -> Callable[[Path], Path]:
    def prepare(folder: Path) -> Path:
        (folder / "entries.yaml").write_text(text, encoding="utf-8")
        return folder / "entries.yaml"

    return prepare


def _variations(folder: Path) -> object:
    options = _options(folder, "--variations")
    variations = read_variations(run_config(options), options)
    return [check_choices(each.config, plan_of(options)) for each in variations], [v.folder(0) for v in variations]


def _problems(folder: Path) -> object:
    options = _options(folder, "--problems")
    problems = read_problems(run_config(options), plan_of(options), options)
    return [check_choices(each.config, each.plan) for each in problems], [each.folder for each in problems]


def _training(folder: Path) -> Path:
    open_training(folder, RunConfig(), {"episodes": 8})
    score = {"accuracy": 50.0, "cross_entropy": 1.0, "agreement": None, "images": 20}
    episode = {"reward": 0.5, **score, "costs": {"flops": 10}, "seconds": 0.1, "kind": "filter", "widths": {"a": 3}}
    lines = [line_of({"task": "half", "episode": number, **episode}) for number in range(8)]
    (folder / "training.jsonl").write_text("".join(lines))
    lines = [line_of({"episode": number, "mean": 0.5, "rewards": {"half": 0.5}}) for number in (4, 8)]
    (folder / "evaluations.jsonl").write_text("".join(lines))
    trained_policy(folder).rename(folder / "checkpoint.safetensors")
    return folder / "training.jsonl"


def _file_of_training(name: str) -> Callable[[Path], Path]:
    def prepare(folder: Path) -> Path:
        return _training(folder).with_name(name)

    return prepare


def _continue(folder: Path) -> object:
    open_training(folder, RunConfig(), {"episodes": 9})
    record = TrainingRecord(folder)
    state = record.checkpoint()
    record.check_complete(8, [4])
    return state, record.episodes(), json.dumps(record.evaluations)


VARIATIONS = """
plain: {agent: uniform, pruning: {criterion: l1, recovery: none, bounds: {conv1: [0, 0.5]}}}
weights: {schedule: 'ticket:count=6', pruning: {family: weight, criterion: magnitude}, budget: {flops: 0.5}}
tuned: {finetune: {epochs: 2, learning_rate: 1.0e-3, penalties: ['slimming:strength=0.001'], keep: last}}
"""
PROBLEMS = """
small: {model: digits_lenet, study: {agents: [uniform, 'cem:population=4'], budgets: [0.5, 0.3]}}
large: {model: resnet20, data: {name: fake}, study: {counts: [10], seeds: [0, 1], finetuned: [0.5], latency: true}}
"""
STUDY_READERS = (
    Reader("variations by study --variations", _entries(VARIATIONS), mutations.mutate_yaml, _variations),
    Reader("problems by study --problems", _entries(PROBLEMS), mutations.mutate_yaml, _problems),
    Reader("training.jsonl by train", _training, mutations.mutate_lines, _continue),
    Reader("evaluations.jsonl by train", _file_of_training("evaluations.jsonl"), mutations.mutate_lines, _continue),
    Reader("config.yaml by train", _file_of_training("config.yaml"), mutations.mutate_yaml, _continue),
)
