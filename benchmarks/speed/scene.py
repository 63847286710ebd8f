"""Peak memory and rate of predicting squares of a raw WHU-CD scene: the larger one must not need more memory.

    python benchmarks/speed/scene.py [--side 4096 8192] [--scene DIR] [--out benchmarks/speed/results/scene.md]

Without --scene an invented, sparse scene of 32507 x 15354 pixels is written to a temporary folder. The network is
whu_cd's quick one,
untrained: time and memory do not depend on its weights. Each square is predicted in a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from diffmatch import plugins
from diffmatch.domain import Image
from diffmatch.learning import registry
from diffmatch.learning.method import Statistics
from diffmatch.running.plan import settings_of
from diffmatch.scoring.scenes import predict_scene

WINDOW, STRIDE = 256, 192


def square(root: Path, side: int, results: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    """Predict the top left square; puts (side, seconds, peak MiB, MiB before, changed pixels)."""
    from diffmatch_whu_cd_scene import find, window

    torch.set_num_threads(1)
    domain, kind = plugins.domain("whu_cd"), registry.method("diffmatch")
    settings = settings_of(domain, kind, "quick", {})
    torch.manual_seed(0)
    method = kind.build(domain.card, settings, Statistics((1, 1), 1, 1)).eval()
    scene = find(root)
    assert scene is not None

    def read(top: int, left: int, height: int, width: int) -> Image:
        dates = [window(path, False, top, left, height, width) for path in (scene.before, scene.after)]
        return np.asarray(np.stack(dates).transpose(0, 3, 1, 2) / np.float32(255), np.float32)

    before, began, changed = peak(), time.perf_counter(), 0
    covered = np.zeros((side // WINDOW, side // WINDOW), np.int64)
    for block in predict_scene(
        method.probabilities, read, (side, side), key="scene", data=settings.data, window=WINDOW, stride=STRIDE
    ):
        labels = block.probabilities.argmax(0)
        changed += int(labels.sum())
        rows, columns = block.top + np.arange(labels.shape[0]), block.left + np.arange(labels.shape[1])
        np.add.at(covered, (rows[:, None] // WINDOW, columns[None] // WINDOW), 1)
    assert (covered == WINDOW * WINDOW).all(), "a pixel was predicted twice or not at all"
    results.put((side, time.perf_counter() - began, peak(), before, changed))


def peak() -> float:
    """Largest resident memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, nargs="+", default=[4096, 8192])
    parser.add_argument("--scene", type=Path)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = asked.scene
        if root is None:
            from diffmatch_whu_cd_phantom import write_scene

            root = Path(folder)
            write_scene(root, 15354, 32507, 0)
        context = multiprocessing.get_context("spawn")
        results = context.Queue()
        lines = ["| side | seconds | MPixel/s | peak MiB | before MiB |", "|---|---|---|---|---|"]
        for side in asked.side:
            process = context.Process(target=square, args=(root, side, results))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"the process for {side} px ended with {process.exitcode}")
            _, seconds, most, before, _ = results.get()
            lines.append(f"| {side} | {seconds:.0f} | {side * side / seconds / 1e6:.2f} | {most:.0f} | {before:.0f} |")
            print(lines[-1], flush=True)
    text = (
        f"One thread, torch {torch.__version__}, windows of {WINDOW} every {STRIDE} pixels, 3 sampler steps.\n\n"
        + "\n".join(lines)
    )
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
