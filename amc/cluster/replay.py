"""What a job has shown in its worker, shown here."""

from __future__ import annotations

import warnings
from typing import Any

from amc.cluster.worker import Outcome
from amc.utils.progress import Shows


def replay(outcome: Outcome, shown: Shows) -> Any:
    """Returns the result of a job, after saying what it has said and warning of what it has warned of.

    Raises:
        AmcError: What ended the job.
    """
    for line in outcome.said:
        shown.say(line)
    for text in outcome.warned:
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    if outcome.failure is not None:
        raise outcome.failure.restored()
    return outcome.result
