"""Whether a run leaves GPUs alone. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


def uses_cpu(training_args: Mapping[str, Any]) -> bool:
    """Tell whether runs with these `training_args` stay on the CPU whatever GPUs there are.

    The recipe says so (`use_cpu: true`), or the launcher of this process does (`--cpu`, or its config).
    """
    launched_on_cpu = os.environ.get("ACCELERATE_USE_CPU", "false").lower() in ("1", "true", "yes")
    return bool(training_args.get("use_cpu", False)) or launched_on_cpu
