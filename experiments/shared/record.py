"""`write`: an experiment's JSON, with all that someone needs to judge or repeat the numbers."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import qkan

ROOT = Path(__file__).resolve().parents[2]


def write(path: Path, *, experiment: str, settings: dict[str, Any], **results: Any) -> Path:
    """Write one experiment's record as JSON and return its path.

    Args:
        path: The file; its folder is made.
        experiment: What was done, in a sentence.
        settings: Everything that was chosen: sizes, steps, seeds, recipes.
        **results: What came out: every sample under its name, summaries beside them.
    """
    record = {
        "experiment": experiment,
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "environment": environment(),
        "settings": settings,
        **results,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2, default=str, ensure_ascii=False) + "\n")
    return path


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean, sample standard deviation (None for a single value), and the values themselves."""
    return {
        "mean": statistics.mean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "values": list(values),
    }


def environment() -> dict[str, Any]:
    """The machine, the versions and the commit, without names of hosts or users."""
    return {
        "processor": _processor(),
        "cores": _cores(),
        "torch_threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "qkan": qkan.__version__,
        **_commit(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> int | None:
    # inside a container the process may be allowed fewer than the machine has
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _commit() -> dict[str, Any]:
    """The commit of this checkout, and whether files differ from it; None outside a checkout."""
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return {"commit": commit, "uncommitted_changes": None if commit is None else bool(changes)}


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
