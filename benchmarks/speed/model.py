"""How fast a finished run is as a model, and how near its ONNX graph is to PyTorch.

    python benchmarks/speed/model.py --of RUN FILES... [--of RUN FILES...] [--out benchmarks/speed/results/model.md]

Import, load, the first and the second prediction of the first file are timed in a process of its own, with one thread.
Then the run is exported, and the graph predicts every file (of a volume its middle slice) from the same noise.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffmatch.diffusion.sampler import batch_noise
from diffmatch.domain import InputError, Scene
from diffmatch.model.export import export_model
from diffmatch.model.model import Input, Model, Opened, load
from diffmatch.scoring.inference import frame
from diffmatch.shared.machine import environment

CPU = torch.device("cpu")
COLUMNS = (
    "data set, method",
    "parameters",
    "import s",
    "load s",
    "first s",
    "second s",
    "ONNX MB",
    "images",
    "equal pixels %",
    "largest difference",
    "PyTorch ms",
    "onnxruntime ms",
)


TIMED = """
import json, sys, time
marks = [time.perf_counter()]
import torch, diffmatch
torch.set_num_threads(1)
diffmatch.load
marks.append(time.perf_counter())
model = diffmatch.load(sys.argv[1])
marks.append(time.perf_counter())
for _ in range(2):
    model.predict(tuple(sys.argv[2:]) if len(sys.argv) > 3 else sys.argv[2])
    marks.append(time.perf_counter())
print(json.dumps([b - a for a, b in zip(marks, marks[1:])]))
"""
"""Prints the seconds of import, load, and two predictions of one input."""


def timed(run: Path, first: Input) -> list[float]:
    """The seconds that `TIMED` prints in a process of its own."""
    words = [str(run), *map(str, first if isinstance(first, tuple) else (first,))]
    done = subprocess.run([sys.executable, "-c", TIMED, *words], capture_output=True, text=True, check=True)
    seconds: list[float] = json.loads(done.stdout)
    return seconds


def compared(model: Model, inputs: list[Input]) -> list[Any]:
    """The columns from the graph's size on."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.onnx"
        pixels = [picture(model, one) for one in inputs]
        try:
            export_model(model, out)
        except InputError:  # this network has one size
            export_model(model, out, (pixels[0].shape[-2], pixels[0].shape[-1]))
        size = out.stat().st_size / 1e6
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(out, options)
        equal, difference, seconds = [], 0.0, np.zeros(2)
        for image in pixels:
            given = {"images": image[None]}
            if model.method.sampled:
                ready = frame(torch.from_numpy(image[None]), model.settings.data)[0]
                shape = model.method.noise_shape(ready.shape[-2:])
                given["noise"] = batch_noise(["/0"], model.settings.eval.draws, shape, CPU).numpy()
            marks = [time.perf_counter()]
            found = model.predict_opened(Opened("", image))
            marks.append(time.perf_counter())
            probabilities, labels = session.run(["probabilities", "labels"], given)
            marks.append(time.perf_counter())
            seconds += np.diff(marks)
            equal.append(float((labels[0] == found.labels).mean()))
            difference = max(difference, float(np.abs(probabilities[0] - found.probabilities).max()))
    torch_ms, onnx_ms = seconds / len(pixels) * 1000
    shown = f"{100 * np.mean(equal):.4f} ({100 * min(equal):.4f} at least)"
    return [f"{size:.1f}", len(pixels), shown, f"{difference:.1g}", f"{torch_ms:.0f}", f"{onnx_ms:.0f}"]


def picture(model: Model, one: Input) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(dates, channels, H, W) of a file, of a volume its middle slice."""
    image = model.open(one).image
    assert not isinstance(image, Scene), "a scene is no single image"
    return np.ascontiguousarray(image[:, :, image.shape[2] // 2] if image.ndim == 5 else image)


def measured(run: Path, files: list[Path]) -> list[Any]:
    model = load(run)
    torch.set_num_threads(1)
    inputs: list[Input] = [
        (path, path.parents[1] / "B" / path.name) if model.card.dates == 2 else path for path in files
    ]
    seconds = [f"{value:.2f}" for value in timed(run, inputs[0])]
    parameters = sum(p.numel() for p in model.method.parameters())
    return [f"{model.manifest.dataset}, {model.manifest.method}", f"{parameters:,}", *seconds, *compared(model, inputs)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", nargs="+", type=Path, action="append", required=True, metavar=("RUN", "FILES"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/speed/results/model.md"))
    arguments = parser.parse_args()
    rows = [measured(run, files) for run, *files in arguments.of]
    about = environment("cpu", "32", 1)
    lines = [
        "# A run as a model",
        "",
        f"One thread of an {platform.machine()} CPU, Python {about['python']}, torch {about['packages']['torch']};",
        "made by `benchmarks/speed/model.py`. Import, load and the two predictions are of one file, a whole volume on",
        "msd; the graph is compared on single images, from the same noise.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|" + "---|" * len(COLUMNS),
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
    ]
    arguments.out.write_text("\n".join(lines) + "\n")
    print(arguments.out.read_text())


if __name__ == "__main__":
    main()
