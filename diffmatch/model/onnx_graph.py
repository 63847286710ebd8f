"""A method as one ONNX graph: from pixels, through extractor and all steps of the sampler, to probabilities and labels.

What it computes is `scoring.inference.predict_images` on whole images: normalisation, resize and padding are in it.
"""

from __future__ import annotations

import copy
import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from diffmatch.diffusion.sampler import batch_noise
from diffmatch.domain import InputError
from diffmatch.learning.method import Method
from diffmatch.scoring.inference import framed
from diffmatch.settings import Section
from diffmatch.shared.files import write_atomically

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 20
"""The first whose GridSample and antialiased Resize the exporter and onnxruntime both know."""
TOLERANCE = 1e-4
"""Largest difference between a graph's probabilities and PyTorch's."""
ATTEMPTS = 3
"""Random batches on which a sampler is compared.

Where two classes tie within rounding, the sampler may encode either, and the pixels around differ. That is seldom; a
graph that is wrong differs on every batch.
"""
DEFAULT_KEY = "0"
"""Key of the noise that the graph uses where none is given."""
CPU = torch.device("cpu")


class Graph(nn.Module):
    """What is exported: pixels (N, dates, channels, H, W) -> probabilities (N, C, H, W) and labels (N, H, W) uint8.

    Noise (R, n, channels, h, w) is repeated over images, rows and columns until it fits: one field of noise serves a
    batch, and a field of the trained size serves any size.
    """

    def __init__(self, method: Method[Section]) -> None:
        super().__init__()
        self.method = method

    def forward(self, images: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        ready, back = framed(images, self.method.settings.data)
        if noise is None:
            probabilities = self.method.probabilities(ready, ())
        else:
            _, height, width = self.method.noise_shape(ready.shape[-2:])
            for axis, count in ((1, ready.shape[0]), (3, height), (4, width)):
                noise = repeated(noise, axis, count)
            probabilities = self.method.draws_from(noise, ready).mean(0)
        probabilities = back(probabilities)
        return probabilities, probabilities.argmax(1).to(torch.uint8)


def repeated(x: Tensor, axis: int, count: int) -> Tensor:
    """The tensor along an axis, from the start again where it ends, `count` long."""
    period = torch.full((), x.shape[axis], dtype=torch.int64, device=x.device)  # exporters know no % by a size
    return x.index_select(axis, torch.arange(count, device=x.device) % period)


def export_onnx(
    method: Method[Section], out: Path, *, size: tuple[int, int] | None, metadata: Mapping[str, str]
) -> float:
    """Write a method as one ONNX graph, and hold it against PyTorch through onnxruntime before it is written.

    Inputs are `images` (N, dates, channels, H, W), float32, nominally in [0, 1], and, for a method that samples,
    `noise` (draws, N or 1, channels, h, w), standard normal, which may be left out: the default is the noise of the key
    "0", the same at every call. Outputs are `probabilities` (N, C, H, W) and `labels` (N, H, W) uint8. Steps, draws and
    adjustment are those of the method's settings.

    Args:
        size: fixed (H, W), or None for any size.
        metadata: goes into the file's metadata_props.

    Returns:
        The largest difference between the graph's probabilities and PyTorch's that was found.

    Raises:
        InputError: a package is missing, the method cannot be exported at this size, or the graph does not compute what
            PyTorch does.
    """
    for package in ("onnx", "onnxruntime", "onnxscript"):
        needs(package)
    method = copy.deepcopy(method).to(CPU).eval()
    side = method.settings.data.resize or method.settings.data.crop
    traced = size or (side + 24, side + 40)
    which, advice = ("", "") if size else (" for any image size", "; give one size with --size HEIGHTxWIDTH")
    with torch.no_grad():
        noise = default_noise(method, size) if method.sampled else None
        try:
            model = traced_graph(method, traced, noise, dynamic=size is None)
            describe(model, method, noise, size, metadata)
            content = model.SerializeToString()
            sizes = [traced] if size else [traced, (side - 5, side // 2 + 3), (side + 43, side + 2)]
            difference = largest_difference(method, content, noise, sizes)
        except Exception as error:
            why = (str(error) or type(error).__name__).strip().splitlines()[0]
            raise InputError(f"{out}: {method.title} cannot be exported{which} ({why[:160]}){advice}") from error
    if difference > TOLERANCE:
        raise InputError(
            f"{out}: not written, a graph{which} would differ from PyTorch's probabilities by {difference:.1g}{advice}"
        )
    write_atomically(out, lambda handle: handle.write(content))
    return difference


def needs(package: str) -> None:
    """Raise InputError if a package of the extra `onnx` is missing."""
    if find_spec(package) is None:
        raise InputError(f"a graph needs the package {package}: pip install 'diffmatch-bench[onnx]'")


def default_noise(method: Method[Section], size: tuple[int, int] | None) -> Tensor:
    """Noise (draws, 1, channels, h, w) of the key "0" for an image of that size, or of the trained one."""
    ready, _ = framed(torch.zeros(1, 1, method.card.channels, *(size or (1, 1))), method.settings.data)
    return batch_noise([DEFAULT_KEY], method.settings.eval.draws, method.noise_shape(ready.shape[-2:]), CPU)


def traced_graph(method: Method[Section], size: tuple[int, int], noise: Tensor | None, dynamic: bool) -> ModelProto:
    """The graph with any batch, and any size if dynamic, as the exporter writes it."""
    free = torch.export.Dim.DYNAMIC
    images = torch.zeros(3, method.card.dates, method.card.channels, *size)
    inputs, shapes = [images], [{0: free} | ({3: free, 4: free} if dynamic else {})]
    if noise is not None:
        draws, _, channels, height, width = noise.shape
        inputs.append(torch.zeros(draws, 2, channels, height + 2, width + 5))  # lengths of 1 would stay fixed
        shapes.append({1: free, 3: free, 4: free})
    with quiet():
        program = torch.export.export(Graph(method).eval(), tuple(inputs), dynamic_shapes=tuple(shapes), strict=True)
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=["images", "noise"][: len(inputs)],
            output_names=["probabilities", "labels"],
        )
    assert exported is not None
    model: ModelProto = exported.model_proto
    return model


def describe(
    model: ModelProto,
    method: Method[Section],
    noise: Tensor | None,
    size: tuple[int, int] | None,
    metadata: Mapping[str, str],
) -> None:
    """Give the graph its names, its default noise and its metadata, and take away what tells where it was traced."""
    from onnx import helper, numpy_helper

    graph, card = model.graph, method.card
    for node in [*graph.node, *(node for function in model.functions for node in function.node)]:
        del node.metadata_props[:]
        node.doc_string = ""
    for described in (graph, *graph.input, *graph.output, *graph.initializer, *model.functions):
        del described.metadata_props[:]
    del graph.value_info[:], model.metadata_props[:]
    height, width = size or ("height", "width")
    classes, draws = len(card.classes), method.settings.eval.draws
    shapes: dict[str, tuple[Sequence[int | str], str]] = {
        "images": (
            ("batch", card.dates, card.channels, height, width),
            "pixels, nominally in [0, 1]; normalisation, resize and padding are part of the graph",
        ),
        "noise": (
            (draws, "noises", 0 if noise is None else noise.shape[2], "noise height", "noise width"),
            "standard normal, one field for each image or one for all; what is too small is repeated; may be left out",
        ),
        "probabilities": (("batch", classes, height, width), "of " + ", ".join(card.names)),
        "labels": (("batch", height, width), "the most probable class, an index into " + ", ".join(card.names)),
    }
    for value in [*graph.input, *graph.output]:
        dims, value.doc_string = shapes[value.name]
        kind = value.type.tensor_type.elem_type
        value.type.CopyFrom(helper.make_tensor_type_proto(kind, dims))
    if noise is not None:
        graph.initializer.append(numpy_helper.from_array(noise.numpy(), "noise"))
    graph.name, model.doc_string = method.title, f"{method.title} trained on {card.title}"
    helper.set_model_props(model, dict(metadata))


def largest_difference(
    method: Method[Section], content: bytes, noise: Tensor | None, sizes: Sequence[tuple[int, int]]
) -> float:
    """Largest difference of probabilities between the graph in onnxruntime and PyTorch, over image sizes and batches.

    Each size is tried with one image and the graph's own noise, and with two images and a noise of each.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def difference(size: tuple[int, int], keys: Sequence[str], seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        images = torch.rand(len(keys) or 1, method.card.dates, method.card.channels, *size, generator=generator)
        feed = {"images": images.numpy()}
        if keys:
            ready, back = framed(images, method.settings.data)
            expected = back(method.probabilities(ready, keys))
            if noise is not None:
                shape = method.noise_shape(ready.shape[-2:])
                feed["noise"] = batch_noise(keys, len(noise), shape, CPU).numpy()
        else:
            expected, _ = Graph(method)(images, noise)
        (found,) = session.run(["probabilities"], feed)
        return float(np.abs(found - expected.numpy()).max())

    worst = 0.0
    for size in sizes:
        for keys in ([], ["1", "2"]):
            least = math.inf
            for seed in range(ATTEMPTS):
                least = min(least, difference(size, keys, seed))
                if least <= TOLERANCE:
                    break
            worst = max(worst, least)
    return worst


@contextmanager
def quiet() -> Iterator[None]:
    """The exporter's progress and warnings are of no use to the user."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
