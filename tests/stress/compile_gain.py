"""Times epochs of a training with and without torch.compile, in turn, on one thread of the CPU.

    python tests/stress/compile_gain.py                        # ResNet-20, batches of 128, three rounds
    python tests/stress/compile_gain.py --model resnet56 --images 256

The first epoch, in which the network is compiled, is shown by itself; the others are compared.
"""

from __future__ import annotations

import argparse
import statistics

import torch

from amc.data import DataConfig, load_data
from amc.models import create_model
from amc.training import TrainConfig, TrainingHooks, train_model

_EPOCHS = 3


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet20", help="a built-in network (resnet20)")
    parser.add_argument("--images", type=int, default=512, help="training images of an epoch (512)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (3)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load_data(DataConfig(name="fake", train_images=options.images + 100, test_images=100, search_images=100))
    found: dict[bool, list[float]] = {False: [], True: []}
    for number in range(options.rounds):
        for compiles, later in found.items():
            seconds: list[float] = []
            hooks = TrainingHooks(on_epoch=lambda record, seconds=seconds: seconds.append(record.seconds))
            config = TrainConfig(epochs=_EPOCHS, dtype="float32", learning_rate=0.01, compile=compiles)
            train_model(create_model(options.model, seed=0), data, config, device="cpu", hooks=hooks)
            later.append(statistics.fmean(seconds[1:]))
            print(
                f"round {number}, compile {compiles}: first epoch {seconds[0]:.2f} s, then {later[-1]:.2f} s",
                flush=True,
            )
    ratio = statistics.median(b / a for a, b in zip(found[False], found[True], strict=True))
    print(f"compiled epochs take {ratio:.2f} of the time of the others, median of {options.rounds} rounds")


if __name__ == "__main__":
    main()
