"""Who is scored, and that the counts are those of the predictions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from diffmatch.domain import InputError, Item, Sample
from diffmatch.progress import Bar, silent
from diffmatch.scoring import evaluation
from diffmatch.scoring.evaluation import evaluate, evaluate_pool, members, pool_labels, shares
from diffmatch.scoring.inference import predict_item

CPU = torch.device("cpu")


def test_members(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    split, (alone, pooled) = planned().split, planned().card.protocols
    assert members(split, "test", alone) == list(split.test)
    assert members(split, "test", pooled) == [*split.val, *split.test]
    assert members(split, "val", pooled) == list(split.val)
    pool = members(split, "unlabeled", alone)
    assert pool == list(split.unlabelled) and not set(pool) & set(split.labelled)
    hidden = replace(split, unlabelled=(replace(split.unlabelled[0], masked=False), *split.unlabelled[1:]))
    assert members(hidden, "unlabeled", alone) == pool[1:]  # what has no mask cannot be scored
    monkeypatch.setattr(evaluation, "POOL_LIMIT", 5)
    few = members(split, "unlabeled", alone)
    assert (
        len(few) == len({i.id for i in few}) == 5 and set(few) < set(pool) and few == members(split, "unlabeled", alone)
    )


def test_shares() -> None:
    items = [Item(str(n), "case") for n in range(7)]
    assert [[item.id for item in share] for share in shares(items, 3)] == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    assert shares([], 3) == []


def test_a_method_is_told_where_a_pool_image_is_padding(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    p = planned("fixmatch", data__resize=None, data__crop=40)
    method, seen = p.build(), []
    usual = method.pseudo_labels
    monkeypatch.setattr(
        method,
        "pseudo_labels",
        lambda images, keys, inside: (seen.append((images, inside)), usual(images, keys, inside))[1],
    )
    pool_labels(method.eval(), torch.ones(2, 1, 1, 24, 31), ["a", "b"], p.settings.data)
    ((images, inside),) = seen
    assert inside.shape == (2, 40, 40) and inside.sum() == 2 * 24 * 31
    assert torch.equal(inside, images[:, 0, 0] == images.max()), "exactly where the ones are"


@pytest.mark.parametrize("name", ["supervised", "diffmatch"])
def test_counts_are_those_of_the_predictions(name: str, planned: Any) -> None:
    """One volume by hand: confusion, and true and false positives of its case; the method is left in the mode it was
    in."""
    p = planned(name)
    method, (item, *_) = p.build().train(), p.split.test
    counts = evaluate(method, p.domain, [item], p.card.protocol(), bar=silent(), distances=False, device=CPU)
    assert method.training and not counts.surface
    sample = p.domain.read(item)
    method.eval()
    with torch.no_grad():
        predicted = predict_item(method, item, sample.image, p.settings.data, p.card.protocol(), 8, CPU).labels
    expected = np.zeros((4, 4), int)
    np.add.at(expected, (sample.mask.ravel(), predicted.ravel()), 1)
    np.testing.assert_array_equal(counts.confusion, expected)
    tp = np.diag(expected)
    np.testing.assert_array_equal(counts.cases[item.id], [tp, expected.sum(0) - tp, expected.sum(1) - tp])


def test_slices_at_once_do_not_change_a_prediction(planned: Any) -> None:
    p = planned()
    method, (item, *_) = p.build().eval(), p.split.test
    image = p.domain.read(item).image
    with torch.no_grad():
        one, many = (
            predict_item(method, item, image, p.settings.data, p.card.protocol(), n, CPU).probabilities for n in (1, 8)
        )
    np.testing.assert_allclose(one, many, atol=1e-5)


def test_the_pool_is_scored_on_its_own_grid_by_case(planned: Any) -> None:
    """Slices of several sizes, batched where they agree; acceptance is that of the pseudo-labels."""
    p = planned(method__threshold=0.0)
    items = [p.split.unlabelled[0], p.split.labelled[0], p.split.unlabelled[1], p.split.labelled[1]]
    sizes = {item.id: p.domain.read(item).mask.size for item in items}
    assert len(set(sizes.values())) > 1
    method = p.build().train()
    counts = evaluate_pool(method, p.domain, items, bar=silent(), device=CPU)
    assert method.training and counts.confusion.sum() == counts.accepted.sum() == sum(sizes.values())
    for case in ("patient021", "patient099"):
        assert counts.cases[case][[0, 2]].sum() == sum(sizes[i.id] for i in items if i.case == case)
    never = evaluate_pool(planned(method__threshold=1.0).build(), p.domain, items, bar=silent(), device=CPU)
    assert never.accepted.sum() == 0 and np.array_equal(never.confusion, counts.confusion)


def test_pool_labels_come_back_to_the_image_s_grid(planned: Any) -> None:
    p = planned()
    images = torch.rand(2, 1, 1, 45, 61)
    probabilities, accepted = pool_labels(p.build().eval(), images, ["a", "b"], p.settings.data)
    assert probabilities.shape == (2, 4, 45, 61) and accepted.shape == (2, 45, 61) and accepted.dtype == torch.bool
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2, 45, 61))


def test_image_and_mask_that_do_not_fit_are_an_error(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    p = planned("supervised")
    item = p.split.test[0]
    sample = p.domain.read(item)
    for wrong, message in ((sample.mask[:, :-1], "differ in size"), (None, "no mask")):
        monkeypatch.setattr(p.domain, "read", lambda *_, wrong=wrong, **__: Sample(sample.image, wrong))
        with pytest.raises(InputError, match=f"{item.id}: .*{message}"):
            evaluate(p.build(), p.domain, [item], p.card.protocol(), bar=silent(), distances=False, device=CPU)


def test_bars_that_are_not_shown_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("train", 2, shown=False) as bar:
        assert list(bar.track([1, 2])) == [1, 2]
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
