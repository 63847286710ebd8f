"""What a command left in a folder, to be held against what it leaves undisturbed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

MEASURED = {
    "seconds",
    "images_per_second",
    "timing",
    "environment",
}
"""What differs between two runs of the same bits."""


def content(out: Path) -> dict[str, bytes]:
    """What a command left, by path, without what two runs of the same bits differ in. Files that are hidden are none.

    Raises:
        Exception: a file is half written.
    """
    found = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        name = path.relative_to(out)
        if any(part.startswith(".") for part in name.parts) or name.name == "log.txt" or "report" in name.parts[1:]:
            continue
        raw = path.read_bytes()
        if path.suffix == ".json":
            raw = json.dumps(timeless(json.loads(raw))).encode()
            if "digests" in name.parts:  # they are kept once the files are old enough
                continue
        elif path.suffix == ".ckpt":
            held = torch.load(io.BytesIO(raw), weights_only=True)
            del held["elapsed"]
            raw = repr(plain(held)).encode()
        elif path.suffix in (".npz", ".npy"):
            arrays = np.load(io.BytesIO(raw))
            raw = b"".join(arrays[key].tobytes() for key in arrays) if path.suffix == ".npz" else arrays.tobytes()
        elif path.suffix == ".png":
            raw = np.asarray(Image.open(io.BytesIO(raw))).tobytes()
        elif path.name == "curves.csv":
            raw = b"\n".join(line for line in raw.splitlines() if b"images_per_second" not in line)
        found[str(name)] = raw
    return found


def plain(value: object) -> object:
    """A checkpoint as text alone: equal where its bits are equal, in whichever order and form they were pickled."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, dict):
        return sorted((repr(key), plain(part)) for key, part in value.items())
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def timeless(value: object) -> object:
    """A record without times, machines and commands."""
    if isinstance(value, dict):
        return {key: timeless(part) for key, part in value.items() if key not in MEASURED}
    return [timeless(part) for part in value] if isinstance(value, list) else value
