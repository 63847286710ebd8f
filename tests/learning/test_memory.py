"""The bank of vectors per class, and the draw of vectors that fills it."""

from __future__ import annotations

import pytest
import torch

from diffmatch.domain import InputError
from diffmatch.learning import memory
from diffmatch.learning.memory import MemoryBank, draw


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
    assert bank.means.flatten().tolist() == [bank.keys[0].mean().item(), 0]
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


def test_a_bank_that_does_not_fit_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is made; `diffmatch cost` makes it on the meta device, where it takes nothing."""
    monkeypatch.setattr(memory, "memory", lambda: 1 << 30)
    with pytest.raises(InputError) as error:
        MemoryBank(21, 60_000, 256)
    assert str(error.value) == (
        "method.bank=60000: a bank of 21 classes x 60000 vectors x 256 numbers takes 1.2 GiB, and 1.0 GiB of memory "
        "are left; set method.bank to at most 24966"
    )
    MemoryBank(2, 3, 1)
    with torch.device("meta"):
        MemoryBank(21, 10**9, 256)


def test_no_more_than_asked_are_written_over_the_oldest() -> None:
    bank = MemoryBank(1, 4, 2)
    first, second = torch.full((1, 2, 3, 3), 1.0), torch.full((1, 2, 3, 3), 2.0)
    everywhere = torch.ones(1, 1, 3, 3, dtype=torch.bool)
    bank.push(first, everywhere, 3)
    assert bank.filled == 3 and bank.keys[0, :, 0].tolist() == [1, 1, 1, 0]
    bank.push(second, everywhere, 2)
    assert bank.filled == 4 and bank.keys[0, :, 0].tolist() == [2, 1, 1, 2]
    bank.push(first, torch.zeros_like(everywhere), 2)
    assert bank.keys[0, :, 0].tolist() == [2, 1, 1, 2]
    bank.push(first, everywhere)  # as many as the bank holds
    assert bank.keys[0, :, 0].tolist() == [1, 1, 1, 1]
