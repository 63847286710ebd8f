"""Codes of classes: void, distances, golden bits, gradient."""

from __future__ import annotations

import pytest
import torch

from diffmatch.diffusion.codec import BitsCodec, EmbeddingCodec, build_codec


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("kind", ["embedding", "bits"])
def test_each_pixel_gets_the_code_of_its_class_and_void_the_zero_vector(kind):
    codec = build_codec(kind, 4, 0.1, 8)
    mask = torch.tensor([[[0, 1, 255], [3, 2, 1]]], dtype=torch.uint8)
    y = codec(mask)
    assert y.shape == (1, codec.channels, 2, 3)
    codes = codec.codes()
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2)):
        assert torch.equal(y[0, :, i, j], codes[int(mask[0, i, j])])
    assert not y[0, :, 0, 2].any()
    assert y.abs().max() <= 0.1


@pytest.mark.parametrize(("dim", "distance"), [(256, 0.94), (24, 0.29)])
def test_class_distance_of_the_embedding_at_b_one_tenth(dim, distance):
    assert EmbeddingCodec(60, 0.1, dim).class_distance() == pytest.approx(distance, rel=0.03)


def test_class_distance_of_one_bit_at_b_one_tenth():
    assert BitsCodec(2, 0.1).class_distance() == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (2, [[-1], [1]]),
        (3, [[-1, -1], [1, -1], [-1, 1]]),
        (4, [[-1, -1], [1, -1], [-1, 1], [1, 1]]),
        (5, [[-1, -1, -1], [1, -1, -1], [-1, 1, -1], [1, 1, -1], [-1, -1, 1]]),
    ],
)
def test_golden_bits(classes, expected):
    codec = BitsCodec(classes, 0.5)
    assert codec.channels == len(expected[0])
    assert torch.equal(codec.codes(), torch.tensor(expected) * 0.5)


@pytest.mark.parametrize(("classes", "channels"), [(8, 3), (9, 4), (21, 5), (81, 7)])
def test_bits_are_as_many_as_needed_and_tell_all_classes_apart(classes, channels):
    codec = BitsCodec(classes, 0.1)
    assert codec.channels == channels
    assert len(codec.codes().unique(dim=0)) == classes


def test_bits_are_nothing_to_learn_or_to_store():
    codec = BitsCodec(4, 0.1)
    assert not list(codec.parameters())
    assert not codec.state_dict()


def test_gradient_reaches_the_embedding_of_the_classes_that_occur():
    codec = EmbeddingCodec(4, 0.1, 8)
    codec(torch.tensor([[[0, 2, 255]]], dtype=torch.uint8)).sum().backward()
    touched = codec.embedding.weight.grad.abs().sum(1) > 0
    assert touched.tolist() == [True, False, True, False]


def test_the_embedding_is_sigmoid_times_two_minus_one_times_b():
    codec = EmbeddingCodec(2, 0.1, 3)
    with torch.no_grad():
        codec.embedding.weight.copy_(torch.tensor([[0.0, 100.0, -100.0], [1.0, 2.0, 3.0]]))
    expected = torch.tensor([[0.0, 0.1, -0.1], [0.0462117, 0.0761594, 0.0905148]])
    torch.testing.assert_close(codec.codes().detach(), expected, atol=1e-6, rtol=0)


def test_the_gradient_of_the_codes_is_the_same_every_time_on_several_threads():
    threads = torch.get_num_threads()
    mask, weights = torch.randint(0, 5, (8, 32, 32)), torch.randn(8, 16, 32, 32)
    torch.set_num_threads(2)
    try:
        codec = EmbeddingCodec(5, 0.1, 16)
        gradients = [torch.autograd.grad((codec(mask) * weights).sum(), codec.embedding.weight)[0] for _ in range(20)]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(gradients[0], g) for g in gradients[1:])
    by_hand = torch.stack([weights.movedim(1, -1)[mask == c].sum(0) for c in range(5)])
    slope = torch.sigmoid(codec.embedding.weight) * (1 - torch.sigmoid(codec.embedding.weight)) * 2 * 0.1
    assert torch.allclose(gradients[0], by_hand * slope, atol=1e-4)
