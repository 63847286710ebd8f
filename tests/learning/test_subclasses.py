"""Balanced clusters, how many subclasses a class gets, and which subclass a vector belongs to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffmatch.domain import VOID
from diffmatch.learning.subclasses import Subclasses, balanced_clusters, numbers_of_subclasses


def sizes(vectors: Tensor, centroids: Tensor, prices: Tensor) -> Tensor:
    labels = (torch.cdist(vectors, centroids).square() - prices).argmin(1)
    return labels.bincount(minlength=len(centroids)) / len(vectors)


def test_numbers_of_subclasses_by_hand() -> None:
    """The next one goes to the largest subclasses: 600, 400, 300 (twice), 200 (three times)."""
    assert numbers_of_subclasses([600, 400, 100, 0], 4) == [1, 1, 1, 1]
    assert numbers_of_subclasses([600, 400, 100, 0], 5) == [2, 1, 1, 1]
    assert numbers_of_subclasses([600, 400, 100, 0], 7) == [3, 2, 1, 1]
    assert numbers_of_subclasses([600, 400, 100, 0], 2) == [1, 1, 1, 1]
    assert numbers_of_subclasses([0, 0], 5) == [4, 1]


def test_numbers_of_usrn_on_cityscapes() -> None:
    """The list for 372 images in Dayan-Guan/USRN 20ac4c1, models/model.py 282, from the shares of the classes in the
    whole training set (W-zx-Y/DANNet ca8d7792, evaluate.py 62-64): 17 of 19, the others within one."""
    shares = [
        *(0.36869696, 0.06084986, 0.22824049, 0.00655399, 0.00877272, 0.01227341, 0.00207795, 0.0055127, 0.15928651),
        *(0.01157818, 0.04018982, 0.01218957, 0.00135122, 0.06994545, 0.00267456, 0.00235192, 0.00232904, 0.00098658),
        0.00413907,
    ]
    theirs = torch.tensor([42, 7, 26, 1, 2, 2, 1, 1, 19, 2, 5, 2, 1, 8, 1, 1, 1, 1, 1])
    found = torch.tensor(numbers_of_subclasses([round(share * 1e8) for share in shares], int(theirs.sum())))
    assert (found - theirs).abs().max() == 1 and (found == theirs).sum() == 17


@pytest.mark.parametrize("dim", [2, 32])
def test_clusters_are_balanced(dim: int) -> None:
    """Nine tenths of the vectors lie close together: k-means leaves the rest a cluster of its own, prices share."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(1000, dim, generator=generator)
    vectors[::10] = vectors[::10] + 4
    centroids, prices = balanced_clusters(vectors, torch.ones(1000, dtype=torch.bool), 4)
    balanced, plain = sizes(vectors, centroids, prices), sizes(vectors, centroids, torch.zeros(4))
    assert balanced.min() > 0.2 and balanced.max() < 0.3
    assert plain.max() > balanced.max()


def test_equal_groups_are_found_and_invalid_vectors_do_not_count() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    vectors = (centres[:, None] + 0.1 * torch.randn(3, 50, 2, generator=generator)).movedim(1, 0).reshape(-1, 2)
    far = torch.full((30, 2), 1e3)
    valid = torch.arange(180) >= 30
    centroids, _ = balanced_clusters(torch.cat([far, vectors]), valid, 3)
    found = centroids[torch.cdist(centres, centroids).argmin(1)]
    torch.testing.assert_close(found, centres, atol=0.1, rtol=0)


def test_few_equal_or_no_vectors_are_finite() -> None:
    """Fewer vectors than clusters, equal ones, one cluster (its mean), none at all."""
    vectors = torch.randn(5, 3)
    for valid, count in ((torch.arange(5) < 2, 4), (torch.zeros(5, dtype=torch.bool), 2)):
        centroids, prices = balanced_clusters(vectors, valid, count)
        assert torch.isfinite(centroids).all() and torch.isfinite(prices).all()
    centroids, prices = balanced_clusters(torch.ones(5, 3), torch.ones(5, dtype=torch.bool), 3)
    assert torch.equal(centroids, torch.ones(3, 3)) and torch.isfinite(prices).all()
    centroids, prices = balanced_clusters(vectors, torch.ones(5, dtype=torch.bool), 1)
    torch.testing.assert_close(centroids[0], vectors.mean(0))
    assert prices == 0


def test_a_vector_gets_a_subclass_of_its_own_class() -> None:
    split = Subclasses([2, 1, 2], 2)
    vectors = torch.tensor([[0.0, 0.1], [3.0, 0.0], [0.0, 3.0], [3.0, 0.2]]).T.view(1, 2, 2, 2)
    classes = torch.tensor([[[0, 0], [2, VOID]]], dtype=torch.uint8)
    assert (split.of(vectors, classes) == VOID).all(), "before the clusters are found"
    split.centroids.copy_(torch.tensor([[0.0, 0.0], [3.0, 0.0], [3.0, 0.0], [3.0, 3.0], [0.0, 3.0]]))
    split.found.fill_(True)
    assert split.of(vectors, classes).tolist() == [[[0, 1], [4, VOID]]]
    assert split.parents.tolist() == [0, 0, 1, 2, 2]
    split.prices[0] = 20.0  # nothing else pays
    assert split.of(vectors, classes).tolist() == [[[0, 0], [4, VOID]]]


def test_clusters_of_each_class_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(2, 60, 3, generator=generator)
    vectors[1, 10:] = 1e4  # the bank holds ten vectors of the second class
    split = Subclasses([3, 1], 3)
    split.find(vectors, torch.tensor([60, 10]))
    torch.testing.assert_close(split.centroids[3], vectors[1, :10].mean(0))
    shares = sizes(vectors[0], split.centroids[:3], split.prices[:3])
    assert shares.min() > 0.25 and shares.max() < 0.42 and bool(split.found)
