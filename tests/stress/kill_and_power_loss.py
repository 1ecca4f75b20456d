"""Kills runs before every file operation and after half of every write, and cuts their power; then resumes them.

    python tests/stress/kill_and_power_loss.py              # a part of the states, in minutes
    python tests/stress/kill_and_power_loss.py --share 1    # all of them, in hours

A kill leaves the folder as it is: so one run is recorded, its folder's different states are what kills can leave, and
each is resumed. A power cut may besides leave single files empty, full of zeros, or without their end. Every resumed
run must end with the results of the undisturbed one; after a power cut it may be refused, too, in one line. Any other
end is counted and named, and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from folder_states import Recorder, Tree, restore, tree_of  # noqa: E402
from jobs import End, Job, all_jobs, in_child, results, resume, run, warm_up  # noqa: E402

from amc.utils.durable_files import is_unfinished  # noqa: E402

_Item = TypeVar("_Item")
_POWER_STATES = 6
"""States of a run that power cuts are tried on, at most."""


def main() -> int:
    """Runs the jobs that are asked for and prints a table of counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.1, help="share of a job's states (0.1)")
    parser.add_argument("--power_share", type=float, help="share of a job's power cuts (that of --share)")
    parser.add_argument("--jobs", nargs="+", default=[""], help="only the jobs whose name holds one of these, in order")
    options = parser.parse_args()
    if "AMC_STRESS_LIBRARY" not in os.environ:
        _start_again_with_library()
    library = Path(os.environ["AMC_STRESS_LIBRARY"])
    warm_up()
    print("| job | operations | writes | states | resumed: same | power cuts: same | refused in a line | wrong |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    shares = options.share, options.share if options.power_share is None else options.power_share
    wrong = 0
    for job in dict.fromkeys(job for text in options.jobs for job in all_jobs() if text in job.name):
        with tempfile.TemporaryDirectory(prefix="amc-stress-") as scratch:
            wrong += _try(job, Path(scratch), library, *shares)
    return int(wrong > 0)


def _start_again_with_library() -> None:
    """Compiles the library and starts this script again with it."""
    library = Path(tempfile.mkdtemp(prefix="amc-stress-")) / "file_operations.so"
    source = HERE / "file_operations.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    environment = {**os.environ, "LD_PRELOAD": str(library), "AMC_STRESS_LIBRARY": str(library)}
    os.execve(sys.executable, [sys.executable, *sys.argv], {**environment, "OMP_NUM_THREADS": "1"})


def _try(job: Job, scratch: Path, library: Path, share: float, power_share: float) -> int:
    """Records a job, resumes its states, prints a row, and returns how many ends were wrong."""
    folder, kept, job = scratch / "run", scratch / "states", job.within(scratch)
    for words in job.before:
        assert (end := run([*words])).status == 0, end

    def record() -> dict[str, Any]:
        recorder = Recorder(library, folder, kept)
        from amc.cli.main import main as amc

        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
        status = amc([*job.words, "--out", str(folder)])
        return {"status": status, "operations": recorder.operations, "writes": recorder.writes}

    recorded = in_child(record)
    assert recorded.get("status") == 0, recorded
    expected = results(folder)
    states = sorted(kept.iterdir())
    killed = Counter[str]()
    for state in _spread(states, max(2, round(share * len(states)))):
        restore(tree_of(state), folder)
        killed[_outcome(job, folder, expected, f"{job.name}, state {state.name}", may_refuse=False)] += 1
    cut = Counter[str]()
    cuts = list(_power_cuts(_spread(states[1:], _POWER_STATES)))
    for title, tree in _spread(cuts, max(2, round(power_share * len(cuts)))):
        restore(tree, folder)
        cut[_outcome(job, folder, expected, f"{job.name}, {title}", may_refuse=True)] += 1
    wrong = killed["wrong"] + cut["wrong"]
    counts = (recorded["operations"], recorded["writes"], len(states))
    cells = (*counts, killed["same"], cut["same"], cut["refused"], wrong)
    print(f"| {job.name} | " + " | ".join(map(str, cells)) + " |", flush=True)
    return wrong


def _spread(items: Sequence[_Item], count: int) -> list[_Item]:
    """Returns `count` items, evenly spread from the first to the last; the middle one where it is one."""
    count = min(count, len(items))
    if count == 1:
        return [items[len(items) // 2]]
    return [items[round(index * (len(items) - 1) / (count - 1))] for index in range(count)]


def _power_cuts(states: Sequence[Path]) -> Iterator[tuple[str, Tree]]:
    """Yields what a power cut may leave of states: each file empty, of zeros, or torn."""
    for state in states:
        tree = tree_of(state)
        for name, content in tree.items():
            if is_unfinished(name):
                continue
            half = len(content) // 2
            for kind, damaged in (
                ("empty", b""),
                ("zeros", bytes(len(content))),
                ("torn", content[:half]),
                ("a tail of zeros", content[:half] + bytes(len(content) - half)),
            ):
                yield f"state {state.name} with {name}: {kind}", {**tree, name: damaged}


def _outcome(job: Job, folder: Path, expected: dict[str, Any], title: str, *, may_refuse: bool) -> str:
    """Resumes a job and returns `"same"`, `"refused"` or `"wrong"`; says what is wrong."""
    end = resume(job, folder)
    if end.is_refusal and may_refuse:
        return "refused"
    found = results(folder) if end.status == 0 else {}
    if found == expected and "Traceback" not in end.error:
        return "same"
    differing = [name for name in expected if found.get(name) != expected[name]]
    first = [_first_difference(expected[name], found.get(name)) for name in differing]
    words = f"status {end.status}, differing {differing} {first}: {_last_lines(end)}"
    print(f"WRONG: {title}: {words}", file=sys.stderr, flush=True)
    return "wrong"


def _first_difference(expected: Any, found: Any, place: str = "") -> str:
    """Returns where two results differ first, and by what."""
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        expected, found = dict(enumerate(expected)), dict(enumerate(found))
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in [*expected, *found]:
            if expected.get(name) != found.get(name):
                return _first_difference(expected.get(name), found.get(name), f"{place}/{name}")
    return f"{place}: {str(expected)[:200]} became {str(found)[:200]}"


def _last_lines(end: End) -> str:
    return " / ".join(end.error.strip().splitlines()[-3:])


if __name__ == "__main__":
    sys.exit(main())
