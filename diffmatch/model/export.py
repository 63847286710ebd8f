"""A finished run as one file: safetensors for `diffmatch.load`, ONNX for everything else."""

from __future__ import annotations

import re
from pathlib import Path

from diffmatch.domain import InputError
from diffmatch.model import source
from diffmatch.model.model import Model


def export_model(model: Model, out: Path, size: tuple[int, int] | None = None) -> float | None:
    """Write a model as one file. The ending says which kind.

    Args:
        out: `NAME.safetensors`, which `load` reads, or `NAME.onnx`, extractor and sampler as one graph.
        size: of all images (H, W), for ONNX; None: any.

    Returns:
        The largest difference between the graph's probabilities and PyTorch's that was found; None without a graph.

    Raises:
        InputError: another ending, a size where there is none, or a graph that cannot be written.
    """
    ending = out.suffix.lower()
    if ending == ".safetensors":
        if size:
            raise InputError(f"--size: {out.name} takes images of any size; leave it out")
        source.write(out, model.manifest, model.method.state_dict())
        return None
    if ending == ".onnx":
        from diffmatch.model.onnx_graph import export_onnx

        return export_onnx(model.method, out, size=size, metadata={source.KEY: model.manifest.model_dump_json()})
    raise InputError(f"--out {out}: its ending says what is written; call it NAME.safetensors or NAME.onnx")


def size_of(text: str) -> tuple[int, int]:
    """`256x320` -> (256, 320), height and width.

    Raises:
        InputError: something else.
    """
    if not (match := re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)):
        raise InputError(f"--size {text}: write height x width in pixels, for example 256x320")
    return int(match[1]), int(match[2])
