"""Feeds mutants of real files to every reader: `python tests/stress/fuzz.py --mutants 10000`.

Of every mutant a reader must make a result or one of the project's errors, in five seconds and a gigabyte. Each reader
runs in a process of its own, so that a crash is counted too. After the readers come the commands that call them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

SECONDS, MEBIBYTES = 5.0, 1024


def attack(name: str, mutants: int, seed: int, folder: Path) -> dict[str, Any]:
    """Feeds mutants to one reader.

    Returns:
        Counts of what was read, refused and anything else; the longest time in seconds, the memory that came on top in
        MiB, and the first failure.
    """
    import torch
    from agent_readers import AGENT_READERS
    from command_readers import COMMAND_READERS
    from data_readers import DATA_READERS
    from jobs import quicken
    from readers import READERS, fresh
    from study_readers import STUDY_READERS

    from amc.errors import AmcError

    torch.set_num_threads(1)
    quicken()
    readers = (*READERS, *AGENT_READERS, *DATA_READERS, *STUDY_READERS, *COMMAND_READERS)
    reader = next(reader for reader in readers if reader.name == name)
    corpus, place = folder / "corpus", folder / "mutant"
    corpus.mkdir(parents=True)
    changed = reader.prepare(corpus).relative_to(corpus)
    fresh(corpus, place)
    reader.read(place)  # the real files are read
    before, counts, longest, failure = _memory(), Counter[str](), 0.0, ""
    for index in range(mutants):
        draw = random.Random(f"{name} {seed} {index}")
        fresh(corpus, place)
        reader.mutate(place / changed, draw)
        start = time.perf_counter()
        outcome = "read"
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):  # lines on options that are ignored
            warnings.simplefilter("ignore")
            try:
                reader.read(place)
            except AmcError as error:
                outcome = "refused" if str(error) else "failed"
            except Exception:
                outcome, failure = "failed", failure or f"mutant {index}: {traceback.format_exc()}"
        seconds = time.perf_counter() - start
        counts[outcome] += 1
        if seconds > SECONDS:
            counts["slow"] += 1
            failure = failure or f"mutant {index} took {seconds:.1f} s"
        longest = max(longest, seconds)
    return {"counts": counts, "seconds": longest, "mebibytes": _memory() - before, "failure": failure}


def _memory() -> float:
    """Returns the most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _send(pipe: Any, *arguments: Any) -> None:
    pipe.send(attack(*arguments))


def attack_apart(name: str, mutants: int, seed: int) -> dict[str, Any]:
    """Feeds mutants to one reader in a process of its own; a crash is a failure."""
    context = multiprocessing.get_context("fork")  # of a process that has imported everything and computed nothing
    with tempfile.TemporaryDirectory(prefix="amc-fuzz-") as folder:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_send, args=(sender, name, mutants, seed, Path(folder)))
        process.start()
        sender.close()
        try:
            found: dict[str, Any] = receiver.recv()
        except EOFError:
            process.join()
            found = {"counts": Counter(failed=1), "seconds": 0.0, "mebibytes": 0.0}
            found["failure"] = f"the process ended with {process.exitcode}"
        process.join()
    return found


def main() -> int:
    """Attacks the readers, prints a table, and returns how many mutants were neither read nor refused."""
    from agent_readers import AGENT_READERS
    from command_readers import COMMAND_READERS
    from data_readers import DATA_READERS
    from readers import READERS
    from study_readers import STUDY_READERS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=10_000, help="Mutants a reader.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the changes.")
    parser.add_argument("--only", nargs="+", default=[""], help="Readers whose name holds one of these.")
    options = parser.parse_args()
    bad, failures = 0, []
    print("| reader | mutants | read | refused | anything else | longest, s | memory on top, MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for reader in (*READERS, *AGENT_READERS, *DATA_READERS, *STUDY_READERS, *COMMAND_READERS):
        if not any(text in reader.name for text in options.only):
            continue
        found = attack_apart(reader.name, options.mutants, options.seed)
        counts = found["counts"]
        wrong = counts["failed"] + counts["slow"] + (found["mebibytes"] > MEBIBYTES)
        bad += wrong
        failures += [f"{reader.name}: {found['failure']}"] * bool(found["failure"])
        print(
            f"| {reader.name} | {options.mutants} | {counts['read']} | {counts['refused']} | {wrong} "
            f"| {found['seconds']:.2f} | {found['mebibytes']:.0f} |",
            flush=True,
        )
    print("\n".join(failures), file=sys.stderr)
    return min(bad, 100)


if __name__ == "__main__":
    sys.exit(main())
