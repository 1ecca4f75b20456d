"""The names of the files of a run and of a study: each is defined only here."""

from __future__ import annotations

import re
from pathlib import Path

from amc.utils.digests import digest_of_text

_LONGEST_NAME = 150
"""Letters of a training or an agent in the name of its file: file systems take 255 bytes in all."""

ARCHITECTURE = "architecture.json"
"""How the dense network was cut."""
WEIGHTS = "model.safetensors"
"""The weights of the pruned network."""
PACKED = "model.amcpack"
"""The pruned network in few bits."""
POLICY = "policy.json"
"""What each layer keeps."""
CONFIG = "config.yaml"
"""The options of a run, or the rules of a study."""
WEIGHTS_DIGEST = "weights_sha256"
"""The entry in the rules of a study that says which weights it started from; no option."""
RUN = "run.json"
"""The command that made the folder, what it started from, and digests of the weights that it wrote."""
ENVIRONMENT = "environment.json"
"""Device, threads and versions that the run was begun under."""
LATER_ENVIRONMENTS = "environments.jsonl"
"""Other environments that a study was continued in, one a line."""
EPISODES = "episodes.jsonl"
"""The candidates of the search, one a line."""
LEARNING = "learning.jsonl"
"""What the agent had learnt at each candidate, one a line; beside the curves for TensorBoard."""
PROGRESS = "progress.json"
"""The stages that are done."""
PREPROCESSING = "preprocessing.json"
"""How to prepare a picture for the network, and the names of the classes."""
SUMMARY = "summary.json"
"""The figures."""
SUMMARY_TEXT = "summary.txt"
"""The tables."""
MODEL_CARD = "README.md"
"""What the network is, for people and for model hubs."""
REPORT = "report.html"
"""The results as a page with figures."""
DENSE = "dense.safetensors"
"""The weights of the dense network, where the run has trained it."""
TENSORBOARD = "tensorboard"
"""The folder of the curves."""
CHECKPOINTS = "checkpoints"
"""The folder of unfinished trainings."""
EXPORT = "export"
"""The folder of what is exported, unless another place is named."""
COMPARED = "compared"
"""The folder of the searches of agents that are compared, each like `episodes.jsonl`."""
LOCK = ".lock"
"""Locked while a process works in the folder; names that process."""
STUDY = "study.jsonl"
"""The cells of a study, one a line."""
REWARDS = "rewards.jsonl"
"""The allocations of a comparison of rewards, one a line."""
STUDY_TABLE = "study.md"
"""The table of a study, which is also written as LaTeX; the cells are written as CSV."""
STUDY_LATEX = "study.tex"
"""The table of a study as LaTeX."""
STUDY_CSV = "study.csv"
"""The cells of a study, one a line, for other programs."""
PROBLEMS = "problems.yaml"
"""The problems of a study that has several, each in a folder of its own."""
REWARDS_TABLE = "rewards.md"
"""The table of a comparison of rewards."""
METHODS_TABLE = "methods.md"
"""The table of a comparison of methods."""
AGENT = "agent.safetensors"
"""The state of an agent that learns: networks, optimisers, replay."""
AGENT_CARD = "agent.json"
"""What the agent was trained on, and how well it did."""
CHECKPOINT = "checkpoint.safetensors"
"""How far the training of a policy has come."""
TRAINING = "training.jsonl"
"""The episodes of a policy's training, one a line."""
EVALUATIONS = "evaluations.jsonl"
"""The evaluations of a policy without noise, one a line."""
AGENTS = "agents"
"""The folder of a study's trained agents."""

FOLDERS = (TENSORBOARD, CHECKPOINTS, COMPARED, AGENTS)
"""The folders that a run or a study writes into within its own."""


def checkpoint_file(folder: Path, training: str) -> Path:
    """Returns the file that keeps the state of a training in a run's folder."""
    return folder / CHECKPOINTS / f"{_stem(training)}.pt"


def compared_file(folder: Path, agent: str) -> Path:
    """Returns the file that keeps the episodes of a compared agent in a run's folder."""
    return folder / COMPARED / f"{_stem(agent)}.jsonl"


def _stem(text: str) -> str:
    """Returns a text as the name of a file; one that has to change, such as an agent with its options, has a digest."""
    name = re.sub(r"[^A-Za-z0-9_.=-]+", "_", text)
    if name != text or len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}-{digest_of_text(text)[:8]}"
    return name
