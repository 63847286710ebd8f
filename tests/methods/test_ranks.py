"""Every installed method on two processes: gradients are shared, and the weights stay the same bits."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed
from torch import Tensor, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from diffmatch import plugins
from diffmatch.conformance.method import toy_batch, toy_card, toy_method, toy_optimizer, toy_settings
from diffmatch.learning import registry
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.method import Method
from diffmatch.settings import Section

WORLD, STEPS = 2, 3


class Step(nn.Module):
    """A method's losses as the forward pass that DistributedDataParallel wraps."""

    def __init__(self, method: Method[Section]) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Batch, progress: Progress) -> Losses:
        return self.method.losses(batch, progress)


def train(rank: int, name: str, folder: Path) -> None:
    """Some steps on this rank's images; the totals and the parameters at the end are saved."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", timedelta(seconds=60), WORLD, rank)
    kind, card = registry.method(name), toy_card()
    settings = toy_settings(kind)
    method = toy_method(kind, card, settings).train()
    wrapped = DistributedDataParallel(Step(method))
    descent = toy_optimizer(method, 0.01, torch.optim.SGD)
    totals = []
    for step in range(STEPS):
        torch.manual_seed(WORLD * step + rank)
        progress = Progress(step, STEPS)
        losses = wrapped(toy_batch(kind, card, settings, 2, WORLD * step + rank), progress)
        descent.zero_grad()
        losses.total.backward()
        descent.step()
        method.after_step(progress)
        totals.append(losses.total.detach())
    torch.save((torch.stack(totals), [p.detach() for p in method.parameters()]), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", plugins.names(plugins.METHODS))
def test_two_processes_agree_on_the_weights(name: str, tmp_path: Path) -> None:
    multiprocessing.start_processes(train, (name, tmp_path), nprocs=WORLD, start_method="fork")
    ends: list[tuple[Tensor, list[Tensor]]] = [torch.load(tmp_path / f"{rank}.pt") for rank in range(WORLD)]
    (totals, first), (others, second) = ends
    assert torch.isfinite(totals).all() and not torch.equal(totals, others), "each rank has images of its own"
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True)), "a rank has other weights"
