"""A finished run, written by hand: what the reports of it must show is known."""

import json

import pytest

from agents.protocol import EpisodeResult
from amc.pipeline.episodes import episode_line
from amc.problem.score import Score
from amc.report.figures.figure import Figure
from amc.structure import Allocation

SIZES = {"stem <one>": 16, "layer & two": 32}


@pytest.fixture(scope="module", autouse=True)
def _pictures(drawn):
    """Here they are what is tested."""


@pytest.fixture
def undrawn(monkeypatch):
    """Leaves the pictures empty again, for what is told of a run beside them: they take most of the time of a page."""
    monkeypatch.setattr(Figure, "_drawn", lambda self, kind, palette: b'<svg width="9pt" height="9pt"></svg>')


def allocation(*widths):
    return Allocation("filter", dict(zip(SIZES, widths, strict=True)))


def episode(number, reward, flops, widths):
    score = Score(accuracy=100 * reward, cross_entropy=0.3, agreement=90.0, images=100)
    return EpisodeResult(number, allocation(*widths), reward, score, {"flops": flops, "params": flops // 10}, 0.1)


EPISODES = [
    episode(0, 0.80, 500, (8, 16)),
    episode(1, 0.90, 480, (6, 20)),
    episode(2, 0.85, 400, (4, 18)),
    episode(3, 0.85, 450, (5, 18)),
]


def layers():
    errors = [0.9, 0.7, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.01, 0.0]
    return [
        {"name": name, "units": units, "flops": 500, "params": 50, "errors": errors} for name, units in SIZES.items()
    ]


def summary():
    own = {"widths": dict(zip(SIZES, (8, 16), strict=True)), "kind": "filter"}
    return {
        "command": "compress",
        "model": "a <b>bold</b> net",
        "agent": "ddpg",
        "seed": 3,
        "pruning": {"family": "filter"},
        "budget": {"flops": 500},
        "costs": {"flops": {"dense": 1000, "pruned": 480}, "params": {"dense": 100, "pruned": 48}},
        "latency_ms": {
            "dense": 2.0,
            "pruned": 1.0,
            "ratio": 0.5,
            "engine": "PyTorch",
            "device": "cpu",
            "batch_size": 1,
        },
        "metric": "top-1 on the test images, in percent",
        "accuracy": {"dense": 95.0, "pruned": 90.0, "finetuned": 94.0},
        "search": {"episodes": 4, "seconds": 1.0, "best_reward": 0.9},
        "baselines": {
            "uniform": {
                "costs": {"flops": 500, "params": 50},
                "pruned": 80.0,
                "finetuned": 93.0,
                "allocation": own,
                "notes": ["epoch 1 of 2 is kept"],
                "curve": [{"epoch": 0, "loss": None, "accuracy": 80.0}, {"epoch": 1, "loss": 0.4, "accuracy": 93.0}],
            }
        },
        "notes": ["the learning rate is small"],
        "curve": [{"epoch": 0, "loss": None, "accuracy": 90.0}, {"epoch": 1, "loss": 0.3, "accuracy": 94.0}],
        "layers": layers(),
        "classes": {"names": ["cat", "dog"], "images": [50, 150], "dense": [48, 142], "finetuned": [44, 144]},
        "versions": {"torch": "2.0"},
    }


def write_run(folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps({**summary(), **changes}))
    ratios = {name: 1 - width / SIZES[name] for name, width in allocation(6, 20).widths.items()}
    policy = {"kind": "filter", "widths": dict(allocation(6, 20).widths), "pruning_ratios": ratios}
    (folder / "policy.json").write_text(json.dumps(policy))
    (folder / "episodes.jsonl").write_text("".join(map(episode_line, EPISODES)))
    (folder / "config.yaml").write_text("model: net\n")
    (folder / "run.json").write_text(json.dumps({"command": "compress"}))
    return folder


@pytest.fixture(name="write_run")
def fixture_write_run():
    """Writes a finished run into a folder, with other figures where they are given."""
    return write_run


@pytest.fixture(name="episodes")
def fixture_episodes():
    """Four candidates."""
    return EPISODES


@pytest.fixture(name="sizes")
def fixture_sizes():
    """Units of the two decisions, by name."""
    return SIZES


@pytest.fixture(name="summary")
def fixture_summary():
    """What `summary.json` of the finished run holds."""
    return {**summary(), "schedule": "one_shot"}
