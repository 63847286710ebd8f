"""Entropy splits pixels into reliable and unreliable ones, and the unreliable ones are what other classes push away
from."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from diffmatch.domain import VOID
from diffmatch.learning.batch import Progress
from diffmatch.learning.losses import entropy
from diffmatch.learning.memory import MemoryBank, draw


def losses(method: Any, batch: Any, at: int = 0, steps: int = 1) -> Any:
    torch.manual_seed(0)
    return method.train().losses(batch, Progress(at, steps))


# -- reliable and unreliable -------------------------------------------------------------------------------------------


def test_the_limit_is_a_quantile_of_the_pixels_inside(planned: Any) -> None:
    method = planned("u2pl").build()
    uncertainty = torch.arange(101.0).view(1, 1, 101)
    inside = torch.ones(1, 1, 101, dtype=torch.bool)
    method.set_limit(uncertainty, inside, 0.2)
    assert method.limit == 80
    method.set_limit(uncertainty, uncertainty <= 50, 0.2)
    assert method.limit == 40
    method.set_limit(uncertainty, ~inside, 0.2)
    assert method.limit == 40
    method.set_limit(uncertainty, inside, 0.0)
    assert method.limit == 100


def test_a_fifth_is_unreliable_at_first_and_none_at_the_end(planned: Any, draw: Any) -> None:
    """Eq. 7. What is unreliable carries no cross-entropy; counts and `pseudo_labels` say the same."""
    p = planned("u2pl", data__cutmix=0.0)
    shares = []
    for at in (0, 5, 10):
        method, batch = p.build(), draw(p)
        found = losses(method, batch, at, 10)
        shares.append(1 - float(found.accepted.sum() / found.given.sum()))
        pseudo = method.pseudo_labels(batch.pool.weak, batch.pool.keys)  # the first teacher has not moved yet
        assert (pseudo.accepted & batch.pool.inside).sum() == found.accepted.sum()
        assert torch.equal(pseudo.accepted, entropy(pseudo.probabilities) <= method.limit)
    assert shares == pytest.approx([0.2, 0.1, 0.0], abs=0.01)


def test_reliable_pixels_alone_carry_cross_entropy(planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their mean, which is what lambda_u makes of it (Eq. 8)."""
    p = planned("u2pl", data__cutmix=0.0, train__loss="ce", method__unreliable=0.5)
    method, batch = p.build(), draw(p)
    seen: list[Any] = []
    both = method.network.both
    monkeypatch.setattr(method.network, "both", lambda x: (seen.append(both(x)), seen[0])[1])
    pseudo_before = method.pseudo_labels(batch.pool.weak, batch.pool.keys)
    found = losses(method, batch)
    reliable = (entropy(pseudo_before.probabilities) <= method.limit) & batch.pool.inside
    full = torch.nn.functional.interpolate(seen[0][0], size=(32, 32), mode="bilinear", align_corners=False)[2:]
    ce = torch.nn.functional.cross_entropy(full, pseudo_before.labels.long(), reduction="none")
    torch.testing.assert_close(found.terms["unsup"], ce[reliable].mean())
    assert 0.45 < reliable.sum() / batch.pool.inside.sum() < 0.55


# -- negative keys -----------------------------------------------------------------------------------------------------


def test_which_keys_are_negative_by_hand(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """C = 4, r_l = 2, r_h = 4. A labelled pixel of class 1 with p = .1 .4 .3 .2 is a key of 2, ranked second, and not
    of 1. An unreliable pixel with p = .3 .26 .24 .2 is a key of the classes ranked third and fourth; a reliable one,
    void and padding are keys of none."""
    method = planned("u2pl", method__ranks=[2, 4]).build()
    p = torch.tensor(
        [
            [0.1, 0.4, 0.3, 0.2],
            [0.1, 0.4, 0.3, 0.2],
            [0.3, 0.26, 0.24, 0.2],
            [0.97, 0.01, 0.01, 0.01],
            [0.3, 0.26, 0.24, 0.2],
        ]
    )
    method.limit.fill_(1.0)
    masks = torch.tensor([1, VOID], dtype=torch.uint8).view(1, 1, 2)
    # image 0 is labelled and has two pixels; images 1 and 2 are not and have an unreliable and a reliable one, and one
    # in padding
    probabilities = torch.stack([p[[0, 1]], p[[2, 3]], p[[4, 4]]]).movedim(2, 1)[:, :, None]
    inside = torch.tensor([[True, True], [False, False]]).view(2, 1, 2)
    keys = torch.arange(6.0).view(3, 1, 1, 2)
    found: list[torch.Tensor] = []
    monkeypatch.setattr(method.memory, "push", lambda vectors, members: found.append((vectors, members)))
    method.remember(keys, probabilities, masks, inside)
    vectors, members = found[0]
    assert torch.equal(vectors, keys)
    negative = members[:, :, 0].movedim(2, 1).flatten(0, 1).int().tolist()
    assert negative == [[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("classes, ranks", [(2, (1, 2)), (3, (2, 3)), (4, (3, 4)), (21, (3, 20))])
def test_ranks_fit_the_number_of_classes(classes: int, ranks: tuple[int, int], planned: Any) -> None:
    from diffmatch.learning.method import Statistics
    from diffmatch.methods.u2pl import U2PL
    from diffmatch.running.cost import plain_card

    method = U2PL(plain_card(classes), planned("u2pl").settings, Statistics((9,) * classes, 1, 1))
    assert (method.low, method.high) == ranks


def test_the_bank_is_a_ring_of_the_newest() -> None:
    """Three slots: 1 2, then 3 4 put 4 over 1; a class without keys keeps what it has."""
    bank = MemoryBank(2, 3, 1)
    torch.manual_seed(0)

    def push(*values: float) -> None:
        vectors = torch.tensor(values).view(1, 1, 1, -1)
        members = torch.zeros(1, 2, 1, len(values), dtype=torch.bool)
        members[:, 0] = True
        bank.push(vectors, members)

    push(1, 2)
    assert bank.filled.tolist() == [2, 0] and set(bank.keys[0, :2].flatten().tolist()) == {1, 2}
    oldest = bank.keys[0, 0].item()
    push(3, 4)
    assert bank.filled.tolist() == [3, 0] and bank.cursor.tolist() == [1, 0]
    assert set(bank.keys[0].flatten().tolist()) == {1, 2, 3, 4} - {oldest}
    push(5, 6, 7, 8, 9)
    assert set(bank.keys[0].flatten().tolist()) < {5, 6, 7, 8, 9} and bank.cursor.tolist() == [1, 0]
    assert not bank.keys[1].any() and set(bank.state_dict()) == {"keys", "cursor", "filled"}
    assert set(bank.similarities(torch.ones(2, 4, 1), 50)[0].flatten().tolist()) == set(bank.keys[0].flatten().tolist())


def test_a_draw_takes_members_without_repeating_them() -> None:
    torch.manual_seed(0)
    vectors = torch.arange(8.0).view(2, 1, 2, 2)
    members = torch.zeros(2, 3, 2, 2, dtype=torch.bool)
    members[:, 0] = True
    members[1, 1, 0, 1] = True
    found, valid = draw(vectors, members, 5)
    assert found.shape == (3, 5, 1) and valid.sum(1).tolist() == [5, 1, 0]
    assert len(set(found[0].flatten().tolist())) == 5 and found[1, 0] == 5
    assert len({tuple(draw(vectors, members, 5)[0][0].flatten().tolist()) for _ in range(5)}) > 1


# -- the contrastive loss ----------------------------------------------------------------------------------------------


def test_contrast_by_hand(planned: Any) -> None:
    """Eq. 4: two anchors at right angles have the positive at 45 degrees; one key in the bank, opposite to the first of
    them."""
    method = planned("u2pl", method__negatives=3).build()
    representations = torch.zeros(1, 16, 1, 3)
    representations[0, 0, 0, 0] = representations[0, 1, 0, 1] = representations[0, 2, 0, 2] = 1
    members = torch.zeros(1, 4, 1, 3, dtype=torch.bool)
    members[0, 1, 0, :2] = members[0, 2, 0, 2] = True  # class 2 has an anchor and no keys: it does not count
    key = torch.zeros(16)
    key[0] = -1
    method.memory.keys[1, 0] = key
    method.memory.filled[1] = 1
    torch.manual_seed(0)
    found = method.contrast(representations.requires_grad_(), members)
    positive = math.exp(math.sqrt(0.5) / 0.5)
    terms = [-math.log(positive / (positive + 3 * math.exp(s / 0.5))) for s in (-1, 0)]
    assert found.item() == pytest.approx(sum(terms) / 2, rel=1e-5)
    found.backward()
    assert representations.grad[0, :, 0, :2].any() and not representations.grad[0, :, 0, 2].any()
    assert method.contrast(representations.detach(), torch.zeros_like(members)) == 0


def test_negatives_push(planned: Any, draw: Any) -> None:
    """The closer a class's keys are to its anchors, the higher the loss; the head learns from it and the bank is filled
    by the teacher."""
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


def test_anchors_are_sure_of_their_label(planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eq. 9-11: p(c) > delta_p of the label's class; void has no anchors."""
    for sure in (0.0, 0.3, 1.0):
        p = planned("u2pl", method__sure=sure, method__unreliable=0.0, data__cutmix=0.0)
        method, batch = p.build(), draw(p)
        seen: list[torch.Tensor] = []
        monkeypatch.setattr(method, "contrast", lambda z, members, seen=seen: (seen.append(members), z.sum() * 0)[1])
        losses(method, batch)
        anchors = seen[0].sum((1, 2, 3))
        places = torch.stack(
            [(flags[1::2, 1::2]).sum() for flags in torch.cat([batch.labelled.masks != VOID, batch.pool.inside])]
        )
        assert (anchors == places).all() if sure == 0 else (anchors < places).all()
        assert (anchors.sum() > 0) == (sure < 1)


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
