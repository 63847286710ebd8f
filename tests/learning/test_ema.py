"""Teachers: copies that lag behind and stay in eval mode, and that travel like any other module."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from diffmatch.learning.batch import Progress
from diffmatch.learning.ema import follow, teacher_of, warmed, warmed_after_an_epoch
from diffmatch.learning.labelling import in_mode


def student() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def test_a_teacher_pickles_and_copies() -> None:
    teacher = teacher_of(student())
    for twin in (pickle.loads(pickle.dumps(teacher)), copy.deepcopy(teacher)):
        assert not twin.training and not any(p.requires_grad for p in twin.parameters())
        assert all(
            torch.equal(a, b) for a, b in zip(twin.state_dict().values(), teacher.state_dict().values(), strict=True)
        )


@pytest.mark.parametrize("name", ["mean_teacher", "crest", "u2pl"])
def test_a_method_with_a_teacher_pickles_and_keeps_it_in_eval_mode(name: str, planned: Any) -> None:
    method = planned(name).build()
    for twin in (method, pickle.loads(pickle.dumps(method)), copy.deepcopy(method)):
        twin.train()
        assert twin.network.training and not any(m.training for m in twin.teacher.modules())
        with in_mode(twin, "eval"):
            assert not twin.network.training
        assert twin.network.training and not any(m.training for m in twin.teacher.modules())


def test_following() -> None:
    """momentum * teacher + (1 - momentum) * student for weights and statistics; counters are copied."""
    network, before = student(), student().state_dict()
    teacher = teacher_of(network)
    with torch.no_grad():
        for value in network.state_dict().values():
            value.add_(1)
    follow(teacher, network, 0.75)
    for key, value in teacher.state_dict().items():
        torch.testing.assert_close(value, before[key] + (0.25 if value.is_floating_point() else 1))


def test_warm_up_is_the_plain_mean_until_the_momentum_takes_over() -> None:
    assert [warmed(0.6, step) for step in range(4)] == [0.0, 0.5, 0.6, 0.6]


def test_the_teacher_is_the_student_through_the_first_eightieth() -> None:
    momenta = [warmed_after_an_epoch(0.9, Progress(step, 160)) for step in (0, 1, 2, 3, 159)]
    assert momenta == pytest.approx([0, 0, 2 / 3, 3 / 4, 0.9])
