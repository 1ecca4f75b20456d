"""Shows the memory that this process holds while a search plays its episodes: it must not grow with their number.

    python tests/stress/memory_of_episodes.py                # 600 episodes on the digits
    python tests/stress/memory_of_episodes.py --episodes 2000

Pages are taken to have 4,096 bytes, as on Linux on x86.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import amc
from agents.protocol import EpisodeResult
from amc.data import DataConfig, load_data
from amc.pipeline.recorder import Recorder


class _Watch(Recorder):
    """Prints the resident memory now and then."""

    def __init__(self, every: int) -> None:
        self._every, self._played = every, 0

    def on_episode(self, result: EpisodeResult) -> None:
        """Counts an episode."""
        self._played += 1
        if self._played % self._every == 0:
            print(f"{self._played} episodes: {_resident_mb():,.0f} MB", flush=True)


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


def main() -> None:
    """Plays a search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=600, help="episodes (600)")
    options = parser.parse_args()
    data = load_data(DataConfig(train_images=600, test_images=100))
    amc.compress(
        amc.create_model("digits_resnet", seed=0),
        data,
        amc.Budget(flops=0.5),
        episodes=options.episodes,
        train=amc.TrainConfig(epochs=1),
        finetune=amc.FineTuneConfig(epochs=1),
        search=amc.SearchConfig(untrained=True),
        out=_Watch(max(1, options.episodes // 10)),
    )


if __name__ == "__main__":
    main()
