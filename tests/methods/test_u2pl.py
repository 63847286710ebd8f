"""Entropy splits pixels into reliable and unreliable ones, and the unreliable ones are what other classes push away
from.

The golden numbers are those of the authors' functions (Haochen-Wang409/U2PL, ab3d2be, u2pl/utils/loss_helper.py:
compute_unsupervised_loss, lines 30-48, and compute_contra_memobank_loss, lines 51-235), run on the same tensors.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from diffmatch.conformance.method import toy_card, toy_method, toy_settings
from diffmatch.domain import VOID
from diffmatch.learning.batch import Batch, Labelled, Pool, Progress
from diffmatch.learning.losses import entropy
from diffmatch.learning.pseudo_labels import cutmix
from diffmatch.methods.u2pl import U2PL, quantile


def losses(method: Any, batch: Any, at: int = 0, steps: int = 1) -> Any:
    torch.manual_seed(0)
    return method.train().losses(batch, Progress(at, steps))


def pixels(rows: list[tuple[float, ...]], width: int) -> Tensor:
    """One image (1, C, H, W) of a vector a pixel."""
    return torch.tensor(rows, dtype=torch.float).T.reshape(1, len(rows[0]), -1, width)


def small(classes: int, **changes: Any) -> Any:
    return toy_method(U2PL, toy_card(classes), toy_settings(U2PL, **changes))


# -- reliable and unreliable -------------------------------------------------------------------------------------------


def test_quantile_of_the_pixels_inside() -> None:
    values = torch.arange(101.0).view(1, 1, 101)
    inside = torch.ones(1, 1, 101, dtype=torch.bool)
    assert [quantile(values, inside, share) for share in (0.0, 0.2, 0.8, 1.0)] == [0, 20, 80, 100]
    assert quantile(values, values <= 50, 0.8) == 40 and quantile(values, ~inside, 0.5) == torch.inf


TEACHER = [(4, 0, 0), (3, 0, 0), (0, 2.5, 0), (0, 2, 0), (1.5, 0, 0), (0, 0, 1), (0.5, 0, 0), (0, 0.2, 0)]
STUDENT = [(2, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0), (0, 0, 2), (0.5, 0, 0), (0, 1, 0)]


@pytest.mark.parametrize(
    "unreliable, loss, gradient",
    [(0.2, 0.8878707, 0.3302993), (0.1, 0.7820074, 0.2662731), (0.5, 1.6022146, 0.6840413)],
)
def test_unsupervised_loss_as_the_authors(
    unreliable: float, loss: float, gradient: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lambda_u makes it larger than the mean over reliable pixels: by 8/6, 8/7 and 8/4."""
    method = small(3, method__unreliable=unreliable)
    taught, student = (torch.cat([torch.zeros(1, 3, 2, 4), pixels(rows, 4)]) for rows in (TEACHER, STUDENT))
    student.requires_grad_()
    representations = torch.ones(2, 16, 2, 4)
    monkeypatch.setattr(method.teacher, "represent", lambda images: (taught, representations))
    monkeypatch.setattr(method.network, "represent", lambda images: (student, representations))
    monkeypatch.setattr(method, "probabilities", lambda images, keys: taught[1:].softmax(1))
    view, no = torch.zeros(1, 1, 3, 2, 4), torch.zeros(1, 2, 4, dtype=torch.bool)
    void = torch.full((1, 2, 4), VOID, dtype=torch.uint8)
    found = losses(method, Batch(Labelled(view, void, ["a"]), Pool(view, (view,), ~no, no, ["b"])))
    assert found.terms["unsup"].item() == pytest.approx(loss, abs=1e-6)
    assert torch.autograd.grad(found.terms["unsup"], student)[0].norm().item() == pytest.approx(gradient, abs=1e-6)


def test_a_fifth_is_unreliable_at_first_and_none_at_the_end(planned: Any, draw: Any) -> None:
    """Eq. 7, of the mixed pixels."""
    p = planned("u2pl")
    shares = []
    for at in (0, 5, 10):
        method, batch = p.build(), draw(p)
        found = losses(method, batch, at, 10)
        shares.append(1 - float(found.accepted.sum() / found.given.sum()))
        assert found.given.sum() == cutmix(batch.pool.inside, batch.pool.boxes).sum()
        pseudo = method.pseudo_labels(batch.pool.weak, batch.pool.keys)
        assert torch.equal(pseudo.accepted, entropy(pseudo.probabilities) <= method.limit)
    assert shares == pytest.approx([0.2, 0.1, 0.0], abs=0.01)


def test_limits_and_keys_are_of_train_mode_and_labels_of_eval_mode(
    planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher sees in train mode what the student sees, and its BatchNorm statistics follow it there alone."""
    p = planned("u2pl")
    method, batch = p.build(), draw(p)
    seen: list[Any] = []
    for name, network in (("teacher", method.teacher), ("student", method.network)):
        represent = network.represent

        def look(images: Tensor, name: str = name, network: Any = network, represent: Any = represent) -> Any:
            seen.append((name, images, {m.training for m in network.modules()}))
            return represent(images)

        monkeypatch.setattr(network, "represent", look)
    labels = method.pseudo_labels(batch.pool.weak, batch.pool.keys).labels
    before = {key: value.clone() for key, value in method.teacher.named_buffers()}
    monkeypatch.setattr(method, "contrast", lambda z, *rest: z.sum() * 0)
    found = losses(method, batch)
    (teacher, first, training), (student, second, _) = seen
    assert (teacher, student) == ("teacher", "student") and training == {True} and torch.equal(first, second)
    assert torch.equal(second[2:], cutmix(batch.pool.strong[0], batch.pool.boxes))
    mixed = cutmix(torch.where(batch.pool.inside, labels, VOID), batch.pool.boxes)
    assert torch.equal(found.given, torch.bincount(mixed[mixed != VOID], minlength=4))
    assert not any(module.training for module in method.teacher.modules())
    after = {key: value.clone() for key, value in method.teacher.named_buffers()}
    assert not any(torch.equal(before[key], after[key]) for key in before)
    method.after_step(Progress(50, 100))
    assert all(torch.equal(value, after[key]) for key, value in method.teacher.named_buffers())


def test_the_teacher_is_the_student_at_first(planned: Any) -> None:
    method = planned("u2pl").build()
    for q in method.network.parameters():
        q.data.add_(1.0)
    ahead = [q - t for q, t in zip(method.network.parameters(), method.teacher.parameters(), strict=True)]
    method.after_step(Progress(400, 800))
    for q, t, d in zip(method.network.parameters(), method.teacher.parameters(), ahead, strict=True):
        torch.testing.assert_close(q - t, 0.99 * d)
    method.after_step(Progress(9, 800))
    assert all(map(torch.equal, method.network.parameters(), method.teacher.parameters()))


# -- negative keys -----------------------------------------------------------------------------------------------------


def test_which_keys_are_negative_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """C = 4, r_l = 2, r_h = 4. A labelled pixel of class 1 with p = .1 .4 .3 .2 is a key of 2, ranked second, and not
    of 1. An unreliable pixel with p = .3 .26 .24 .2 is a key of the classes ranked third and fourth, also of the one
    that it is labelled; a reliable one, void and padding are keys of none."""
    method = small(4, method__ranks=[2, 4])
    p = torch.tensor([(0.1, 0.4, 0.3, 0.2)] * 2 + [(0.3, 0.26, 0.24, 0.2), (0.97, 0.01, 0.01, 0.01)])
    masks = torch.tensor([1, VOID], dtype=torch.uint8).view(1, 1, 2)
    probabilities = torch.stack([p[:2], p[2:]]).movedim(2, 1)[:, :, None]  # image 0 is labelled, image 1 is not
    keys = torch.tensor([3.0, -2.0, 1.0, 5.0]).view(2, 1, 1, 2)
    found: list[Any] = []
    monkeypatch.setattr(method.memory, "push", lambda vectors, members: found.append((vectors, members)))
    method.remember(keys, probabilities, masks, torch.tensor([True, False]).view(1, 1, 2))
    vectors, members = found[0]
    assert torch.equal(vectors, keys.sign())
    negative = members[:, :, 0].movedim(2, 1).flatten(0, 1).int().tolist()
    assert negative == [[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]


@pytest.mark.parametrize("classes, ranks", [(2, (1, 2)), (3, (2, 3)), (4, (3, 4)), (21, (3, 20))])
def test_ranks_fit_the_number_of_classes(classes: int, ranks: tuple[int, int]) -> None:
    method = small(classes)
    assert (method.low, method.high) == ranks


# -- the contrastive loss ----------------------------------------------------------------------------------------------

LABELLED, MIXED = [0, 1, 2, VOID], [0, VOID, 2, 0]
"""The classes of the pixels of a labelled image and of the certain ones of a mixed image, 2 x 2 each."""
PROBABILITIES = [
    *[(0.5, 0.3, 0.2), (0.1, 0.8, 0.1), (0.5, 0.3, 0.2), (0.4, 0.3, 0.3)],
    *[(0.25, 0.45, 0.3), (0.2, 0.7, 0.1), (0.05, 0.05, 0.9), (0.2, 0.5, 0.3)],
]
ANCHORS = [(1, 0), (0, 1), (-1, 0), (5, 5), (1, 1), (2, -1), (-1, -2), (3, 3)]
KEYS = [(2, 0), (0, 1), (-1, -1), (9, 9), (0, 3), (4, 4), (-3, 0), (1, 0)]


def two_images(rows: list[tuple[float, ...]], pad: int = 0) -> Tensor:
    return torch.cat([pixels([(*row, *[0.0] * pad) for row in half], 2) for half in (rows[:4], rows[4:])])


@pytest.mark.parametrize("last_bank, loss, gradient", [(5, 0.7356855, 0.3577628), (0, 0.1449623, 0.1971136)])
def test_contrast_as_the_authors(last_bank: int, loss: float, gradient: float) -> None:
    """One pixel of each class is sure enough to be an anchor, and its class's mean is of all of its pixels, unnormed:
    (1, 1) of (2, 0), (0, 3) and (1, 0). A class without keys counts in the divisor."""
    method = small(3, method__queries=4, method__negatives=3)
    for c, (key, filled) in enumerate([((-1, 0), 5), ((1, 0), 5), ((0, -1), last_bank)]):
        method.memory.keys[c, :filled, :2] = torch.tensor(key, dtype=torch.float)
        method.memory.filled[c] = filled
    members = torch.tensor(LABELLED + MIXED).view(2, 1, 2, 2) == torch.arange(3).view(3, 1, 1)
    anchors = two_images(ANCHORS, 14).requires_grad_()
    found = method.contrast(anchors, two_images(KEYS, 14), two_images(PROBABILITIES), members)
    assert found.item() == pytest.approx(loss, abs=1e-6)
    assert torch.autograd.grad(found, anchors)[0].norm().item() == pytest.approx(gradient, abs=1e-6)
    one = method.contrast(
        anchors, two_images(KEYS, 14), two_images(PROBABILITIES), members & (torch.arange(3) == 0).view(3, 1, 1)
    )
    assert one == 0, "with one class there is nothing to tell it from"


def test_negatives_push(planned: Any, draw: Any) -> None:
    """The head learns from keys that the teacher puts into the bank; without the bank there is no contrast."""
    p = planned("u2pl")
    method, batch = p.build(), draw(p)
    found = losses(method, batch)
    assert found.terms["contrast"] > 0 and method.memory.filled.sum() > 0
    norms = method.memory.keys.norm(dim=2)[torch.arange(1000) < method.memory.filled[:, None]]
    torch.testing.assert_close(norms, torch.ones_like(norms))
    gradients = torch.autograd.grad(
        found.terms["contrast"], list(method.network.representation.parameters()), allow_unused=True
    )
    assert all(g is not None for g in gradients) and any(g.any() for g in gradients)
    assert not any(q.grad is not None for q in method.teacher.parameters())
    empty = p.build()
    empty.memory.push = lambda *_: None
    assert losses(empty, batch).terms["contrast"] == 0


def test_pixels_of_a_class_are_labelled_or_of_the_lowest_entropies(
    planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """alpha_t of the mixed pixels, the same share that is unreliable at the other end."""
    p = planned("u2pl", network__stride=1, data__cutmix=0.0)
    for at, share in ((0, 0.2), (5, 0.1)):
        method, batch = p.build(), draw(p)
        seen: list[Any] = []
        monkeypatch.setattr(
            method, "contrast", lambda z, keys, p, members, seen=seen: (seen.append((p, members)), z.sum() * 0)[1]
        )
        losses(method, batch, at, 10)
        probabilities, members = seen[0]
        own, mixed = members[:2].sum((1, 2, 3)), members[2:].any(1)
        assert torch.equal(own, (batch.labelled.masks != VOID).sum((1, 2)))
        inside = batch.pool.inside
        assert mixed[inside].float().mean() == pytest.approx(share, abs=0.01) and not mixed[~inside].any()
        uncertainty = entropy(probabilities[2:])
        assert uncertainty[mixed].max() <= uncertainty[inside & ~mixed].min()


def test_the_bank_is_state(planned: Any, draw: Any, fit: Any) -> None:
    p = planned("u2pl")
    method, fresh = p.build(), p.build()
    fit(method, [draw(p)])
    fresh.load_state_dict(method.state_dict())
    batch = draw(p, 2, 2)
    a, b = (losses(m, batch).terms for m in (method, fresh))
    assert all(torch.equal(a[key], b[key]) for key in a)
    fresh.memory.keys.neg_()
    assert losses(fresh, batch).terms["contrast"] != a["contrast"]
