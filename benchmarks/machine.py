"""What the JSON says about the machine, its load and the code that ran; no names of hosts."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VECTOR_FLAGS = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512dq", "avx512_bf16", "amx_tile")


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, vector flags, memory, system."""
    processor = _cpuinfo("model name") or platform.processor() or platform.machine()
    flags = set((_cpuinfo("flags") or "").split())
    return {
        "processor": processor,
        "family": _cpuinfo("cpu family"),
        "model": _cpuinfo("model"),
        "cores": len(os.sched_getaffinity(0)),
        "cache": _cpuinfo("cache size"),
        "vector_flags": [flag for flag in VECTOR_FLAGS if flag in flags],
        "memory_gb": round(meminfo("MemTotal") / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def commit() -> dict[str, Any]:
    """The commit of this checkout, and whether files differ from it."""
    changes = _git("status", "--porcelain")
    return {"commit": _git("rev-parse", "HEAD"), "uncommitted_changes": bool(changes)}


def now() -> str:
    """The date and time in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def load() -> dict[str, float]:
    """The load average of the last minute, and CPU seconds taken by other guests so far."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return {
        "average": round(os.getloadavg()[0], 2),
        "stolen": int(fields[8]) / os.sysconf("SC_CLK_TCK"),
    }


def meminfo(field: str) -> int:
    """Bytes of one line of /proc/meminfo."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/meminfo has no {field}")


def _cpuinfo(field: str) -> str | None:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return None


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
