"""The machine that a number was made on."""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def usable_cores() -> int:
    """Cores that this process may use: on a shared node fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int:
    """Bytes that a process can still take without swapping; a large number where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return 1 << 62


def shared_memory() -> float:
    """Bytes that processes of this machine can still share; infinite where that is not a file system's room."""
    room = Path("/dev/shm")
    return shutil.disk_usage(room).free if room.is_dir() else math.inf


def environment(device: str, precision: str, world_size: int) -> dict[str, Any]:
    """Versions, machine and commit that a number was made with."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": {name: installed(name) for name in PACKAGES if installed(name)},
        "device": device,
        "cores": usable_cores(),
        "precision": precision,
        "world_size": world_size,
        "git": git_state(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


PACKAGES = ("diffmatch-bench", "torch", "lightning-fabric", "segmentation-models-pytorch", "timm", "monai", "numpy")


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def git_state() -> dict[str, Any] | None:
    """Commit and whether the tree differs from it; None outside a checkout."""
    try:
        here = Path(__file__).parent
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
        if commit.returncode:
            return None
        dirty = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, timeout=10)
        return {"commit": commit.stdout.strip(), "dirty": bool(dirty.stdout.strip())}
    except (OSError, subprocess.TimeoutExpired):
        return None
