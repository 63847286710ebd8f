"""A method as one ONNX graph, held against PyTorch by a session of its own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffmatch import plugins
from diffmatch.conformance.method import fit, toy_batch, toy_card, toy_method, toy_settings
from diffmatch.diffusion.sampler import batch_noise
from diffmatch.domain import InputError, Protocol
from diffmatch.learning import registry
from diffmatch.learning.method import Method
from diffmatch.model import onnx_graph
from diffmatch.model.onnx_graph import DEFAULT_KEY, export_onnx
from diffmatch.scoring.inference import predict_images

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")

SMALL = {"network__stride": 16, "diffusion__steps": 2}
WHOLE = Protocol(name="whole", title="", mode="image")
CPU = torch.device("cpu")


def trained(name: str, dates: int = 1, **changes: Any) -> Method[Any]:
    """A tiny method in eval mode, after a step from weights none of which is zero, so that each of them shows."""
    kind, card = registry.method(name), toy_card(dates=dates)
    settings = toy_settings(kind, **SMALL | changes)
    method = toy_method(kind, card, settings)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
        for module in method.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
    fit(method, [toy_batch(kind, card, settings)], lr=0.001)
    return method.eval()


def session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options)


def pixels(method: Method[Any], count: int, *size: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.rand(count, method.card.dates, method.card.channels, *size, generator=generator)


@torch.no_grad()
def predicted(method: Method[Any], images: Tensor, keys: list[str]) -> np.ndarray[Any, Any]:
    return predict_images(method.probabilities, images, keys, method.settings.data, WHOLE).numpy()


def agrees(found: Any, expected: np.ndarray[Any, Any]) -> None:
    probabilities, labels = found
    assert expected.std() > 0.01, "the prediction says nothing"
    np.testing.assert_allclose(probabilities, expected, atol=1e-4, rtol=0)
    assert labels.dtype == np.uint8 and (labels == expected.argmax(1)).mean() > 0.999


@pytest.mark.parametrize("name", plugins.names(plugins.METHODS))
def test_every_method_is_a_graph(name: str, tmp_path: Path) -> None:
    """Of one image size, for batches that it was not traced with."""
    method, file = trained(name), tmp_path / "x.onnx"
    before = {key: value.clone() for key, value in method.state_dict().items()}
    assert export_onnx(method, file, size=(40, 36), metadata={"who": name}) < 1e-4
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items()) and not method.training
    run = session(file)
    assert run.get_modelmeta().custom_metadata_map == {"who": name}
    for count in (1, 4):
        images = pixels(method, count, 40, 36)
        agrees(run.run(None, {"images": images.numpy()}), predicted(method, images, [DEFAULT_KEY] * count))


@pytest.fixture(scope="module")
def sampler(tmp_path_factory: pytest.TempPathFactory) -> tuple[Method[Any], Path]:
    """DiffMatch for any image size, with two draws and an adjustment in the sampler."""
    method = trained("diffmatch", eval__draws=2, diffusion__adjustment="posthoc", diffusion__tau=0.5)
    file = tmp_path_factory.mktemp("graph") / "sampler.onnx"
    export_onnx(method, file, size=None, metadata={})
    return method, file


@pytest.mark.parametrize("shape", [(1, 20, 71), (3, 33, 32), (2, 64, 49)])
def test_any_size_and_noise_that_is_given(shape: tuple[int, int, int], sampler: tuple[Method[Any], Path]) -> None:
    """Smaller than the crop, as large and larger, none a multiple of the stride."""
    method, file = sampler
    images, keys = pixels(method, *shape), [f"key {n}" for n in range(shape[0])]
    grid = method.noise_shape([max(side, method.settings.data.crop) for side in shape[1:]])
    noise = batch_noise(keys, 2, grid, CPU).numpy()
    agrees(session(file).run(None, {"images": images.numpy(), "noise": noise}), predicted(method, images, keys))


def test_noise_left_out_is_that_of_one_key_at_every_call(sampler: tuple[Method[Any], Path]) -> None:
    method, file = sampler
    run, images = session(file), pixels(method, 2, 30, 32)
    first, again = (run.run(None, {"images": images.numpy()}) for _ in range(2))
    assert np.array_equal(first[0], again[0])
    agrees(first, predicted(method, images, [DEFAULT_KEY] * 2))
    other = run.run(None, {"images": images.numpy(), "noise": np.zeros((2, 1, 16, 1, 1), np.float32)})
    assert np.abs(other[0] - first[0]).max() > 1e-3, "the noise does not matter"
    assert run.run(None, {"images": pixels(method, 1, 90, 70).numpy()})[1].shape == (1, 90, 70)


def test_two_dates_and_a_resize(tmp_path: Path) -> None:
    """Pyramid pooling takes any picture where all of them are resized to one size."""
    method = trained("unimatch", dates=2, network__decoder="pspnet", network__stride=8, data__resize=24)
    export_onnx(method, tmp_path / "x.onnx", size=None, metadata={})
    for size in ((60, 41), (17, 24)):
        images = pixels(method, 2, *size)
        agrees(session(tmp_path / "x.onnx").run(None, {"images": images.numpy()}), predicted(method, images, ["", ""]))


def test_the_file_tells_no_path_and_what_it_takes(sampler: tuple[Method[Any], Path]) -> None:
    _, file = sampler
    content = file.read_bytes()
    assert str(Path(onnx_graph.__file__).parents[2]).encode() not in content and b"site-packages" not in content
    onnx.checker.check_model(file, full_check=True)
    images, noise = onnx.load(file).graph.input
    dims = [[d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in (images, noise)]
    assert dims == [["batch", 1, 3, "height", "width"], [2, "noises", 16, "noise height", "noise width"]]
    assert "[0, 1]" in images.doc_string and "left out" in noise.doc_string


def test_what_depends_on_the_size_is_refused_with_advice(tmp_path: Path) -> None:
    method = trained("supervised", network__decoder="pspnet", network__stride=8)
    with pytest.raises(InputError, match=r"for any image size .*give one size with --size"):
        export_onnx(method, tmp_path / "x.onnx", size=None, metadata={})
    assert not list(tmp_path.iterdir())


def test_a_graph_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = trained("supervised")
    honest = onnx_graph.traced_graph

    def wrong(method: Method[Any], *arguments: Any, **named: Any) -> Any:
        method.network.classifier.bias += torch.tensor([1.0, 0, 0, 0])
        model = honest(method, *arguments, **named)
        method.network.classifier.bias -= torch.tensor([1.0, 0, 0, 0])
        return model

    monkeypatch.setattr(onnx_graph, "traced_graph", wrong)
    with pytest.raises(InputError, match=r"not written, a graph would differ from PyTorch's probabilities by 0\.\d"):
        export_onnx(method, tmp_path / "x.onnx", size=(40, 36), metadata={})
    assert not list(tmp_path.iterdir())


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find: Callable[[str], Any] = importlib.util.find_spec
    monkeypatch.setattr(onnx_graph, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(InputError, match=r"onnxscript: pip install 'diffmatch-bench\[onnx\]'"):
        export_onnx(trained("supervised"), tmp_path / "x.onnx", size=None, metadata={})


def test_a_sampler_that_says_nothing_of_its_noise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = trained("supervised")
    monkeypatch.setattr(type(method), "sampled", True)
    with pytest.raises(InputError, match="defines no noise_shape"):
        export_onnx(method, tmp_path / "x.onnx", size=None, metadata={})
