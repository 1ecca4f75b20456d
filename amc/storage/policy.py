"""Reading policies: what each decision keeps."""

from __future__ import annotations

import json
import os
from pathlib import Path

from amc.errors import ConfigurationError
from amc.structure import Allocation


def read_policy(path: str | os.PathLike[str]) -> Allocation:
    """Reads a policy.json.

    Raises:
        ConfigurationError: If it is missing or malformed.
    """
    try:
        return Allocation.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigurationError(f"the policy must be a readable file: {error}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{path} is no policy: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} is no policy; give the policy.json that amc search writes") from error
