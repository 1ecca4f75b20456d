"""The readers of files from elsewhere: a corpus of real files for each, and what is done with one that is read."""

from __future__ import annotations

import json
import random
import shutil
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mutations
import numpy as np
import torch
from PIL import Image

import amc
from agents import create_agent
from agents.ddpg.agent import DDPGAgent
from amc.cli.command import Parser, make_parser
from amc.cli.commands import COMMANDS
from amc.cli.options import run_config
from amc.data import DataConfig, load_data
from amc.data.reading.decoding import decode_image
from amc.latency.target import LatencyTarget
from amc.models import create_model, load_weights
from amc.pipeline.config import budget_of
from amc.pipeline.environment import Environment
from amc.pipeline.episodes_file import EpisodesFile
from amc.pipeline.folder_recorder import FolderRecorder
from amc.pipeline.run_files import read_progress
from amc.pipeline.task import build_problem
from amc.problem.edited_policy import checked_policy
from amc.pruning import FilterPruner, TableOptions, build_tables
from amc.pruning.config import PruningConfig
from amc.report.origin import Origin
from amc.report.run_folder import RunFolder
from amc.runtime.call import failure_of
from amc.storage.agent_card import AgentCard, CurvePoint, Task, read_card, write_card
from amc.storage.architecture import describe
from amc.storage.policy import read_policy
from amc.storage.save import save_network
from amc.storage.source import ModelSource
from amc.structure.slicing import cut
from amc.study.agents_study import IDENTITY, StudyRecord
from amc.study.tables import agents_table
from amc.tracing.trace import trace_structure
from amc.training import TrainConfig, train_model
from amc.utils.json_lines import Lines, line_of
from amc.zoo.sweep import read_examinations
from amc.zoo.table import markdown


@dataclass(frozen=True)
class Reader:
    """A reader under attack.

    Attributes:
        name: For the table.
        prepare: Writes real files into a folder, and returns the one that is changed.
        mutate: Changes that file.
        read: Reads the folder, and uses what it has read; raises `AmcError` for what it refuses.
    """

    name: str
    prepare: Callable[[Path], Path]
    mutate: Callable[[Path, random.Random], None]
    read: Callable[[Path], object]


def _network(folder: Path) -> None:
    source = ModelSource("name", "digits_resnet", {"num_classes": 10})
    dense = source.build().eval()
    structure = trace_structure(dense, torch.zeros(1, 1, 8, 8))
    kept = {i: torch.arange(0, structure.groups[i].channels, 2) for i in structure.prunable}
    record = describe(dense, structure, kept, source, example_input=torch.zeros(1, 1, 8, 8))
    cut(dense, structure, kept)
    save_network(folder, dense, record)


def _architecture(folder: Path) -> Path:
    _network(folder)
    return folder / "architecture.json"


def _weights_of_network(folder: Path) -> Path:
    _network(folder)
    return folder / "model.safetensors"


def _packed(folder: Path) -> Path:
    _network(folder)
    record = json.loads((folder / "architecture.json").read_text())
    file = folder / "net.amcpack"
    amc.pack(amc.load(folder), file, amc.PackConfig(pack_epochs=0, conv_bits=4), architecture=record)
    return file


def _load_packed(folder: Path) -> object:
    return failure_of(amc.load(folder / "net.amcpack"), torch.zeros(1, 1, 8, 8))


def _load(folder: Path) -> object:
    network = amc.load(folder)
    # A network that does not run is refused by every command before it is used.
    return failure_of(network, torch.zeros(1, 1, 8, 8))


def _dense() -> Any:
    if "dense" not in _KEPT:
        dense = create_model("digits_resnet", seed=0).eval()
        structure = trace_structure(dense, torch.zeros(1, 1, 8, 8))
        tables = build_tables(dense, structure, [], TableOptions(criterion="l2", refit=False))
        _KEPT["dense"] = structure, FilterPruner(dense, structure, tables)
    return _KEPT["dense"]


_KEPT: dict[str, Any] = {}


def _policy(folder: Path) -> Path:
    structure, _ = _dense()
    problem = build_problem(structure, amc.Budget(flops=0.5), PruningConfig())
    allocation = problem.allocation(problem.project([0.6] * len(problem.decisions)))
    record = {**allocation.as_dict(), "pruning_ratios": {}, "costs": {"flops": 1, "params": 2}}
    (folder / "policy.json").write_text(json.dumps(record))
    return folder / "policy.json"


def _prune(folder: Path) -> object:
    structure, pruner = _dense()
    problem = build_problem(structure, None, PruningConfig())
    allocation = checked_policy(read_policy(folder / "policy.json"), problem)
    problem.costs_of(problem.widths(allocation))
    return pruner.prune(allocation)


def _run(folder: Path) -> None:
    config = run_config(make_parser("search", COMMANDS.get("search")).parse([]))
    run = RunFolder.create(folder / "run", config, Origin("search"))
    begun = json.loads((run.path / "run.json").read_text())  # without the digest that would refuse every change
    (run.path / "run.json").write_text(json.dumps({**begun, "config_digest": ""}))
    score = {"accuracy": 50.0, "cross_entropy": 1.0, "agreement": None, "images": 20}
    kept = {"kind": "filter", "widths": {"layer1.0.conv1": 8, "layer1.1.conv1": 9}}
    episode = {"reward": 0.5, **score, "costs": {"flops": 10, "params": 5}, "seconds": 0.1, **kept}
    lines = [line_of({"episode": number, **episode}) for number in range(4)]
    (run.path / "episodes.jsonl").write_text("".join(lines))
    found = {"costs": {"flops": 1}, "pruned": 1.0, "finetuned": 2.0, "allocation": kept, "reward": 1.0, "episodes": 3}
    (run.path / "progress.json").write_text(json.dumps({"baseline uniform": found}))


def _file_of_run(name: str) -> Callable[[Path], Path]:
    def prepare(folder: Path) -> Path:
        _run(folder)
        return folder / "run" / name

    return prepare


def _resume(folder: Path) -> object:
    run = RunFolder.open(folder / "run", "search")
    if run.origin is not None:
        run.origin.check_files()
    EpisodesFile(folder / "run" / "episodes.jsonl").read()
    return budget_of(run.config), read_progress(folder / "run")


def _config(folder: Path) -> Path:
    file = folder / "config.yaml"
    file.write_text(Path(__file__).parents[2].joinpath("configs", "cifar10_resnet20.yaml").read_text())
    return file


@cache
def _parser() -> Parser:
    """Returns the parser of `amc search`; building it takes longer than reading with it."""
    return make_parser("search", COMMANDS.get("search"))


def _parse(folder: Path) -> object:
    words = ["--config", str(folder / "config.yaml")]
    config = run_config(_parser().parse(words))
    budget_of(config)
    return create_agent(config.agent)


def agent_file(folder: Path) -> Path:
    agent = create_agent(
        "ddpg", hidden=(8, 8), warmup_episodes=2, ensemble=2, ensemble_hidden=8, gradient_steps=1, proposals=4
    )
    agent.search(small_environment(), 4, seed=0)
    agent.save(folder / "agent.safetensors")  # type: ignore[attr-defined]
    return folder / "agent.safetensors"


def small_environment(share: float = 0.5) -> Any:
    import gymnasium

    import envs
    from amc.problem.evaluator import as_evaluator
    from amc.problem.score import Score

    structure, _ = _dense()
    problem = build_problem(structure, amc.Budget(flops=share), PruningConfig())

    def score(allocation: Any) -> Any:
        return Score(accuracy=float(sum(allocation.widths.values()) % 97), cross_entropy=1.0)

    return gymnasium.make(envs.FILTER_PRUNING, problem=problem, evaluator=as_evaluator(score))


def _transfer(folder: Path) -> object:
    agent = DDPGAgent.load(folder / "agent.safetensors")
    if agent.config.gradient_steps > 20 or agent.config.environments > 4:
        return None  # within bounds, and no damage
    agent.act(small_environment())
    return agent.search(small_environment(), 2 * agent.config.environments, seed=0)


def zoo_file(folder: Path) -> Path:
    record = {
        "model": "resnet18", "image_size": 64, "groups": 20, "prunable": 8, "share": 0.5, "streams": False,
        "contracts": {"costs": "ok", "loading": "ok"}, "left_alone": {"reads the input": 2}, "seconds": 1.5,
    }  # fmt: skip
    lines = [line_of({**record, "model": name}) for name in ("resnet18", "swin_t", "vgg11")]
    (folder / "zoo.jsonl").write_text("".join(lines))
    return folder / "zoo.jsonl"


def _zoo(folder: Path) -> object:
    return markdown(list(read_examinations(folder / "zoo.jsonl").values()))


def _study(folder: Path) -> Path:
    record = {
        "agent": "ddpg", "budget": 0.5, "episodes": 10, "seed": 0, "metric": "flops", "reward": 0.5, "pruned": 90.0,
        "finetuned": None, "allocation": {"kind": "filter", "widths": {"a": 3}}, "costs": {"flops": 3}, "played": 10,
    }  # fmt: skip
    (folder / "study.jsonl").write_text("".join(line_of({**record, "seed": seed}) for seed in range(3)))
    return folder / "study.jsonl"


def _table(folder: Path) -> object:
    lines = Lines(folder / "study.jsonl", IDENTITY, StudyRecord)
    return agents_table(lines.records)


def _card(folder: Path) -> Path:
    task = Task("resnet20", "flops", 10, 0.5, "accuracy", 3, 4, 0.5)
    card = AgentCard("ddpg", "filter", ["share"], 1, [task], 4, {"torch": "2"}, [CurvePoint(2, {"resnet20": 0.5})])
    write_card(folder / "agent.json", card)
    return folder / "agent.json"


def _profile(folder: Path) -> Path:
    record = {
        "format": 1, "model": "two", "decisions": {"a": 64}, "steps": {"a": 8}, "planned": 4, "batch": 1,
        "engine": "onnxruntime", "threads": 1, "precision": "float32", "processor": "none", "flags": ["avx2"],
        "versions": {"onnxruntime": "1"}, "rounds": 5,
        "networks": [
            {
                "role": role, "widths": {"a": width}, "dense": [1.0, 1.1], "network": [width / 64, 1.1],
                "ratio": width / 64,
                "operators": [
                    {"name": "stem", "kind": "Conv", "us": [width * 10.0, width * 11.0], "shape": [1, 3, 8, 8, width]}
                ],
            }
            for role, width in (("dense", 64), ("fit", 32), ("fit", 16), ("check", 48))
        ],
    }  # fmt: skip
    (folder / "profile.json").write_text(json.dumps(record))
    return folder / "profile.json"


def _environment_of_run(folder: Path) -> Path:
    Environment.here(torch.device("cpu"), 1).write(folder)
    return folder / "environment.json"


def _weights(folder: Path) -> Path:
    torch.save({"state_dict": create_model("digits_resnet", seed=1).state_dict(), "epoch": 3}, folder / "w.pt")
    return folder / "w.pt"


def _weights_file(folder: Path) -> object:
    model = create_model("digits_resnet", seed=0)
    load_weights(model, folder / "w.pt")
    return failure_of(model.eval(), torch.zeros(1, 1, 8, 8))


def _training(folder: Path) -> Path:
    _train(folder)
    with suppress(FileNotFoundError):
        (folder / "state.pt.before").unlink()
    return folder / "state.pt"


def _train(folder: Path) -> object:
    if "data" not in _KEPT:
        _KEPT["data"] = load_data(DataConfig(train_images=40, test_images=10, calibration_images=10), seed=0)
    model = create_model("digits_resnet", seed=0)
    options = TrainConfig(epochs=1, batch_size=40)
    return train_model(model, _KEPT["data"], options, device="cpu", checkpoint=folder / "state.pt")


def _image(folder: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    kinds = ("png", "jpeg", "bmp", "webp", "tiff", "ppm")
    for kind in kinds:
        Image.fromarray(pixels).save(folder / f"image.{kind}", kind.upper())
    return folder / f"image.{kinds[0]}"


def _bomb(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def _mutate_image(file: Path, draw: random.Random) -> None:
    """Changes an image of any of the kinds, or claims another size in a header whose checksum is right."""
    if draw.random() < 0.3:
        sizes = (0, 1, 8, 24, 5000, 40_000, 2**31 - 1)
        file.write_bytes(_bomb(draw.choice(sizes), draw.choice(sizes), b"\0" * draw.choice((0, 10, 9999))))
        return
    file.write_bytes(draw.choice(sorted(file.parent.glob("image.*"))).read_bytes())
    mutations.mutate_bytes(file, draw)


def _decode(folder: Path) -> object:
    return decode_image(folder / "image.png", 16)


READERS = (
    Reader("architecture.json by amc.load", _architecture, mutations.mutate_json, _load),
    Reader("model.safetensors by amc.load", _weights_of_network, mutations.mutate_safetensors, _load),
    Reader("packed network by amc.load", _packed, mutations.mutate_packed, _load_packed),
    Reader("policy.json by prune", _policy, mutations.mutate_json, _prune),
    Reader("config.yaml by --config", _config, mutations.mutate_yaml, _parse),
    Reader("config.yaml by --resume", _file_of_run("config.yaml"), mutations.mutate_yaml, _resume),
    Reader("run.json by --resume", _file_of_run("run.json"), mutations.mutate_json, _resume),
    Reader("progress.json by --resume", _file_of_run("progress.json"), mutations.mutate_json, _resume),
    Reader("episodes.jsonl by --resume", _file_of_run("episodes.jsonl"), mutations.mutate_lines, _resume),
    Reader("agent.safetensors by --transfer", agent_file, mutations.mutate_safetensors, _transfer),
    Reader("zoo.jsonl by zoo --results", zoo_file, mutations.mutate_lines, _zoo),
    Reader("study.jsonl by study", _study, mutations.mutate_lines, _table),
    Reader("weights.pt by --weights", _weights, mutations.mutate_pickle, _weights_file),
    Reader("training state by --resume", _training, mutations.mutate_pickle, _train),
    Reader("images by data.root", _image, _mutate_image, _decode),
    Reader("agent.json by policy show", _card, mutations.mutate_json, lambda folder: read_card(folder / "agent.json")),
    Reader(
        "profile.json by --profile",
        _profile,
        mutations.mutate_json,
        lambda folder: LatencyTarget.read(folder / "profile.json", insist=True),
    ),
    Reader(
        "environment.json by --resume",
        _environment_of_run,
        mutations.mutate_json,
        lambda folder: FolderRecorder(folder).environment(),
    ),
)


def fresh(corpus: Path, folder: Path) -> None:
    """Puts the real files into a folder, and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(corpus, folder)
