"""Measures streaming: memory, the time to the first candidate, and training beside a plain torchvision loop.

    python tests/stress/stream_many_images.py make FOLDER --images 20000
    python tests/stress/stream_many_images.py search FOLDER
    python tests/stress/stream_many_images.py train FOLDER --steps 10 --rounds 3
    python tests/stress/stream_many_images.py read FOLDER

`make` draws JPEGs of 256 to 500 pixels of ten classes, one in ten for the test (with `--distinct 2000` only 2,000 are
drawn, and the others are links to them). `search` runs `amc search` on MobileNet
V2 at 224 pixels and prints the largest memory of all its processes together (shared pages once) and the seconds until
the first candidate was scored. `train` trains the same network on the same images with the same number of workers,
by turns with the trainer and with a plain loop over torchvision's `ImageFolder`. `read` does so without a network.
Figures are wall times and, for busy machines, processor times.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from amc.data import DataConfig, load_data
from amc.models import create_model
from amc.training import FineTuneConfig, TrainingHooks, fine_tune

CLASSES, SIZE = 10, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def draw(job: tuple[Path, int]) -> None:
    """Draws one JPEG, of a texture that compresses about as a photo does."""
    file, seed = job
    pixels = np.random.default_rng(seed)
    width, height = (int(length) for length in pixels.integers(256, 501, 2))
    coarse = pixels.integers(0, 256, (height // 12, width // 12, 3), dtype=np.uint8)
    fine = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    grain = pixels.integers(-12, 13, (height, width, 1), dtype=np.int16)
    Image.fromarray(np.clip(fine + grain, 0, 255).astype(np.uint8)).save(file, quality=88)


def make(folder: Path, images: int, distinct: int) -> None:
    """Draws the images; those beyond `distinct` are links to earlier ones."""
    jobs: list[tuple[Path, int]] = []
    for number in range(images):
        split = "val" if number % 10 == 9 else "train"
        place = folder / split / f"class{number // 10 % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        jobs.append((place / f"{number:06}.jpg", number))
    with ProcessPoolExecutor() as pool:
        list(pool.map(draw, jobs[:distinct], chunksize=50))
    for number, (file, _) in enumerate(jobs[distinct:]):
        os.link(jobs[number % distinct][0], file)
    size = sum(file.stat().st_size for file, _ in jobs)
    print(f"{images} JPEGs, {size / 2**20:.0f} MiB")


def memory_of_tree(root: int) -> int:
    """Returns the bytes that a process and its descendants hold, shared pages counted once."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    tree, total = {root}, 0
    for _ in range(4):
        tree |= {process for process, parent in parents.items() if parent in tree}
    for process in tree:
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def search(folder: Path, options: list[str]) -> None:
    """Runs a search with one candidate."""
    with tempfile.TemporaryDirectory() as place:
        words = [
            *["search", "--model", "mobilenet_v2", "--train.epochs", "0", "--agent", "random", "--episodes", "1"],
            *["--data.name", "imagefolder", "--data.root", str(folder), "--data.image_size", str(SIZE)],
            *["--data.memory", "0", "--data.search_images", "500", "--data.calibration_images", "250"],
            *["--out", f"{place}/run", *options],
        ]
        start, first, most = time.perf_counter(), 0.0, 0
        process = subprocess.Popen([sys.executable, "-m", "amc", *words])
        while process.poll() is None:
            most = max(most, memory_of_tree(process.pid))
            episodes = Path(place) / "run" / "episodes.jsonl"
            if not first and episodes.is_file() and episodes.stat().st_size:
                first = time.perf_counter() - start
            time.sleep(0.2)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"exit {process.returncode}, memory {most / 1e9:.2f} GB, first candidate after {first:.0f} s "
        f"({used.ru_utime + used.ru_stime:.0f} s of processor time in all)"
    )


def plain_batches(folder: Path, size: int, workers: int, seed: int):
    """Returns the loader of a plain training script."""
    from torchvision import datasets, transforms

    change = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return torch.utils.data.DataLoader(
        datasets.ImageFolder(folder / "train", change),
        size,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        generator=torch.Generator().manual_seed(seed),
    )


def processor_time() -> float:
    """Returns the processor time of this process and of the workers that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


class Stopped(Exception):
    """Enough steps."""


def by_turns(name: str, plain, streamed, images: int, rounds: int) -> None:
    """Runs two functions in turn, and prints how long each takes for this number of images."""
    figures = {"plain": [], "streamed": []}
    for number in range(rounds):
        order = (("plain", plain), ("streamed", streamed))
        for kind, run in order if number % 2 == 0 else reversed(order):
            start, used = time.perf_counter(), processor_time()
            run(number)
            figures[kind].append((time.perf_counter() - start, processor_time() - used))
            print(f"{kind}: {figures[kind][-1][0]:.1f} s, of the processor {figures[kind][-1][1]:.1f} s", flush=True)
    for kind, found in figures.items():
        walls = ", ".join(f"{images / wall:.1f}" for wall, _ in found)
        print(f"{name}, {kind}: {walls} images/s; processor {', '.join(f'{used:.1f}' for _, used in found)} s")
    for place, unit in enumerate(("wall", "processor")):
        pairs = zip(figures["plain"], figures["streamed"], strict=True)
        ratios = [one[place] / other[place] for one, other in pairs]
        print(f"{name}: streamed / plain by {unit} time: median {statistics.median(ratios):.3f} of {rounds} pairs")


def train(folder: Path, steps: int, rounds: int, size: int, workers: int) -> None:
    """Trains by the trainer and by a plain loop, by turns."""
    data = load_data(
        DataConfig(
            name="imagefolder",
            root=str(folder),
            image_size=SIZE,
            memory=0.0,
            workers=workers,
            train_images=steps * size + 2,
            search_images=2,
            calibration_images=2,
        )
    )
    config = FineTuneConfig(epochs=1, batch_size=size, learning_rate=0.01, dtype="float32", distillation=0.0)

    def streamed(seed: int) -> None:
        def stop(progress):
            if progress.step >= steps:
                raise Stopped

        model = create_model("mobilenet_v2", num_classes=CLASSES)
        with contextlib.suppress(Stopped):
            fine_tune(model, data, config, seed=seed, hooks=TrainingHooks(on_step=stop))

    def plain(seed: int) -> None:
        model = create_model("mobilenet_v2", num_classes=CLASSES).train()
        optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
        for step, (images, targets) in enumerate(plain_batches(folder, size, workers, seed), start=1):
            loss = torch.nn.functional.cross_entropy(model(images), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if step == steps:
                return

    by_turns("training", plain, streamed, steps * size, rounds)


def read(folder: Path, steps: int, rounds: int, size: int, workers: int) -> None:
    """Reads batches of both kinds, by turns."""
    config = {"name": "imagefolder", "root": str(folder), "image_size": SIZE, "memory": 0.0, "workers": workers}
    split = load_data(DataConfig(search_images=20, calibration_images=20, **config)).train

    def streamed(seed: int) -> None:
        batches = split.batches(size, generator=torch.Generator().manual_seed(seed))
        for _ in range(steps):
            next(batches)

    def plain(seed: int) -> None:
        batches = iter(plain_batches(folder, size, workers, seed))
        for _ in range(steps):
            next(batches)

    by_turns("reading", plain, streamed, steps * size, rounds)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "search", "train", "read"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--distinct", type=int, default=1_000_000, help="Different images; the others are links.")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    known, rest = parser.parse_known_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, {torch.get_num_threads()} threads")
    if known.what == "make":
        make(known.folder, known.images, known.distinct)
    elif known.what == "search":
        search(known.folder, rest)
    else:
        work = train if known.what == "train" else read
        work(known.folder, known.steps, known.rounds, known.batch_size, known.workers)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
