"""Images are drawn so that classes are even."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from diffmatch.data.loading import Stream
from diffmatch.domain import Item
from diffmatch.learning.batch import Progress


def weights_of(method: Any, pixels: Any) -> Any:
    return method.sample_weights([Item(str(i), "case") for i in range(len(pixels))], np.array(pixels))


def test_weights_by_hand(planned: Any) -> None:
    """Class 0 is in four images, 1 and 2 in one each: a third of the draws belongs to each class."""
    method = planned("resampling").build()
    weights = weights_of(method, [[10, 0, 0], [10, 2, 0], [10, 0, 1], [8, 0, 0]])
    np.testing.assert_allclose(weights / weights.sum(), [1 / 12, 1 / 12 + 1 / 3, 1 / 12 + 1 / 3, 1 / 12])


def test_with_one_class_an_image_weights_are_inverse_counts(planned: Any) -> None:
    """No code of Byrd & Lipton was found; ufoym/imbalanced-dataset-sampler 01cb129 (torchsampler/imbalanced.py 35-45)
    gives images of the classes 0, 0, 0, 1, 1, 2 these weights."""
    classes = np.array([0, 0, 0, 1, 1, 2])
    weights = weights_of(planned("resampling").build(), 7 * np.eye(3, dtype=np.int64)[classes])
    np.testing.assert_allclose(weights, [1 / 3, 1 / 3, 1 / 3, 1 / 2, 1 / 2, 1])


def test_draws_get_closer_to_even(planned: Any) -> None:
    """Of 100 images 95 hold nothing rare. Every class is in a drawn image with probability 1/C or more, and pixels are
    more even."""
    pixels = np.array([[1000, 0, 0]] * 95 + [[900, 100, 0]] * 4 + [[950, 0, 50]])
    items = [Item(str(i), "case") for i in range(len(pixels))]
    weights = planned("resampling").build().sample_weights(items, pixels)
    drawn, even = (
        pixels[[int(stream.item(n).id) for n in range(3000)]]
        for stream in (Stream(items, 0, 0, weights), Stream(items, 0, 0, None))
    )
    assert ((drawn > 0).mean(0) > 1 / 3 - 0.03).all() and (even > 0).mean(0)[2] < 0.02

    def distance(rows: Any) -> float:
        return float(np.abs(rows.sum(0) / rows.sum() - 1 / 3).sum())

    assert distance(drawn) < distance(even) and drawn.sum(0)[2] > 20 * even.sum(0)[2]


def test_void_images_and_absent_classes(planned: Any) -> None:
    method = planned("resampling").build()
    weights = weights_of(method, [[5, 0, 0], [0, 0, 0], [5, 1, 0]])
    np.testing.assert_allclose(weights, [0.5, 0, 1.5])
    assert weights_of(method, [[0, 0], [0, 0]]) is None  # nothing to go by: drawn evenly


def test_only_the_draws_differ_from_supervised(planned: Any, draw: Any) -> None:
    p, plain = planned("resampling"), planned("supervised")
    method, reference, batch = p.build().train(), plain.build().train(), draw(plain)
    assert not method.views.unlabelled
    assert method.losses(batch, Progress(0, 1)).total == reference.losses(batch, Progress(0, 1)).total
    weights = method.sample_weights(p.split.labelled, p.pixels)
    assert (
        weights.shape == (len(p.split.labelled),)
        and np.ptp(weights) > 0
        and torch.isfinite(torch.tensor(weights)).all()
    )
