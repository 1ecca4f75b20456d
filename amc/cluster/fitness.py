"""Whether a worker may take part: the same versions, and the same data."""

from __future__ import annotations

from collections.abc import Mapping

from amc.cluster.worker import Failure
from amc.errors import ClusterError
from amc.utils.progress import Shows

_OF_THE_MACHINE = ("machine", "processor")


def check_versions(here: Mapping[str, str], there: Mapping[str, str], shown: Shows) -> str:
    """Checks the versions of a worker; says once a machine if its processor computes with other instructions.

    Args:
        here: The facts of this process; see `amc.cluster.worker.here`.
        there: Those of the worker.
        shown: Shows the line.

    Returns:
        The name of its machine.

    Raises:
        ClusterError: If a version differs.
    """
    machine = there["machine"]
    differing = [
        f"{name} {there.get(name, 'none')}, not {value}"
        for name, value in here.items()
        if name not in _OF_THE_MACHINE and there.get(name) != value
    ]
    if differing:
        raise ClusterError(
            f"every node must have the versions of this one, and {machine} has {'; '.join(differing)}: install the "
            "same there, and repeat the command; what has finished is kept"
        )
    if there["processor"] != here["processor"]:
        shown.say(
            f"{machine} computes with {there['processor']}, not {here['processor']}: its scores may differ in their "
            "last digits"
        )
    return machine


def check_data(machine: str, expected: str, found: str | Failure) -> None:
    """Checks that a worker has put the replica together, and has the same data.

    Args:
        machine: Its name.
        expected: The fingerprint of the data here.
        found: That of the worker, or what it failed with.

    Raises:
        ClusterError: If it failed, or its data is other data.
    """
    if found == expected:
        return
    if isinstance(found, Failure) and found.kind == "ModuleNotFoundError":
        reason, remedy = found.message, "install it there as here"
    elif isinstance(found, Failure) and found.kind in ("FileNotFoundError", "OSError", "PermissionError", "DataError"):
        reason, remedy = f"cannot read its data ({found.message})", "put the data at the same path there"
    elif isinstance(found, Failure):
        reason, remedy = f"fails: {found.kind}: {found.message}", "free memory there, or leave that node out"
    else:
        reason, remedy = "has other data (its digest differs)", "copy the data from here to the same path there"
    raise ClusterError(
        f"every worker must hold the same network and data, and that on {machine} {reason}: {remedy}, and repeat the "
        "command; what has finished is kept"
    )
