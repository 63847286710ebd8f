"""Several processes: the same numbers as one, and no rank that answers for itself alone."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed
from torch import multiprocessing

from diffmatch.data.loading import RankSteps
from diffmatch.diffusion.prior import ClassPrior
from diffmatch.learning import registry
from diffmatch.progress import silent
from diffmatch.records.counts import Counts
from diffmatch.records.curves import Curves
from diffmatch.records.folder import RunFolder
from diffmatch.running import job as jobs
from diffmatch.running.plan import plan
from diffmatch.running.restored import evaluate_run
from diffmatch.running.trainer import Trainer
from diffmatch.scoring.evaluation import evaluate, evaluate_pool

TWO = {
    "train__batch": 4,
    "train__steps": 4,
    "train__audits": 2,
    "train__validations": 2,
    "method__ema": 0.9,
    "data__cutmix": 0.5,
}
CPU = torch.device("cpu")


def _joined(rank: int, world: int, store: Path, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    torch.distributed.init_process_group("gloo", f"file://{store}", timedelta(seconds=60), world, rank)
    work(rank, world, *args)
    torch.distributed.destroy_process_group()


def together(world: int, folder: Path, work: Callable[..., Any], *args: Any) -> None:
    """`work(rank, world, *args)` in forked processes that form a gloo group."""
    folder.mkdir(exist_ok=True, parents=True)
    multiprocessing.start_processes(_joined, (world, folder / "store", work, args), nprocs=world, start_method="fork")


@pytest.fixture(scope="module")
def spawned(job: Any, quietly: Any, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """`diffmatch bench --devices 2`: two processes of its own."""
    asked = job(tmp_path_factory.mktemp("spawned"), devices=2, **TWO)
    parent = multiprocessing.get_context("fork").Process(target=quietly, args=(asked,))
    parent.start()
    parent.join(280)
    assert parent.exitcode == 0
    return plan(asked).folder


# -- scoring -----------------------------------------------------------------------------------------------------------


def _score(rank: int, world: int, method: Any, domain: Any, items: list[Any], pool: list[Any], folder: Path) -> None:
    place = {"device": CPU, "rank": rank, "world": world}
    evaluate(method, domain, items, domain.card.protocol(), bar=silent(), distances=True, **place).save(
        folder / f"test-{rank}.npz"
    )
    evaluate_pool(method, domain, pool, bar=silent(), **place).save(folder / f"pool-{rank}.npz")


def load(method: Any, state: dict[str, torch.Tensor]) -> Any:
    method.load_state_dict(state)
    return method


def assert_equal(a: Counts, b: Counts) -> None:
    for name in ("confusion", "accepted", "top", "per_class", "foreground"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert a.cases.keys() == b.cases.keys() and a.surface.keys() == b.surface.keys()
    for case, rows in a.cases.items():
        np.testing.assert_array_equal(rows, b.cases[case])
    for case, rows in a.surface.items():
        np.testing.assert_array_equal(rows, b.surface[case])


@pytest.mark.parametrize("world", [2, 3])
def test_scores_do_not_depend_on_the_number_of_processes(world: int, planned: Any, draw: Any, tmp_path: Path) -> None:
    """Seven items among two and three processes: every rank has the counts of all, nothing twice, nothing missing."""
    import monai.metrics  # noqa: F401 - takes seconds; the forked processes find it imported

    p = planned(eval__batch=4)
    method = p.build()
    with torch.no_grad():
        method.network.denoiser.classifier.weight *= 10  # every class is predicted somewhere
    confidence = method.pseudo_labels(draw(p, 6).pool.weak, list("abcdef")).probabilities.amax(1)
    between = planned(eval__batch=4, method__threshold=float(confidence.median()))
    method = load(between.build(), method.state_dict())
    items = [*p.split.val, *p.split.test, *p.split.unlabelled[:3]]
    pool = list(p.split.unlabelled[:7])
    assert len(items) == len(pool) == 7
    for folder, size in ((tmp_path / "one", 1), (tmp_path / "more", world)):
        together(size, folder, _score, method, p.domain, items, pool, folder)
    for part in ("test", "pool"):
        alone = Counts.load(tmp_path / "one" / f"{part}-0.npz")
        for rank in range(world):
            assert_equal(alone, Counts.load(tmp_path / "more" / f"{part}-{rank}.npz"))
    assert alone.confusion.sum() == sum(p.domain.read(item).mask.size for item in pool)
    assert 0 < alone.accepted.sum() < alone.confusion.sum()
    assert np.isfinite(np.stack(list(Counts.load(tmp_path / "one" / "test-0.npz").surface.values()))).any()


# -- training ----------------------------------------------------------------------------------------------------------


def test_two_processes_train_and_score(spawned: RunFolder, job: Any) -> None:
    record = spawned.record()
    assert record.status == "done" and record.environment["world_size"] == 2
    assert set(record.metrics) == {"test", "val", "unlabeled"}
    one = plan(job(spawned.path.parents[3], **TWO))
    assert one.folder.path == spawned.path  # how many processes is no part of what is run
    for split, count in (("test", 2), ("val", 2)):
        found = spawned.evaluation(split)
        assert found is not None and len(found[1].cases) == count
    rows = {
        (int(r["step"]), r["name"], r["class"]): float(r["value"]) for r in Curves.read(spawned.path / "curves.csv")
    }
    assert all(rows[step, "lr", ""] == pytest.approx(0.01 * (1 - (step - 1) / 4) ** 0.9) for step in range(1, 5))
    truth = sum(rows[4, "audit/truth", c["name"]] for c in record.card["classes"])
    pool = one.split.unlabelled
    assert truth == sum(one.domain.read(pool[i * len(pool) // 3]).mask.size for i in range(3))


@pytest.mark.parametrize("part", ["test", "val", "unlabeled"])
def test_the_headline_is_that_of_the_checkpoint(part: Any, spawned: RunFolder) -> None:
    """One process that scores the checkpoint finds what two found after training: no rank scored with statistics of its
    own."""
    headline = spawned.evaluation(part)
    assert headline is not None
    found = evaluate_run(spawned, "last", part, steps=None, draws=None, protocol=None, data=None)
    again = Counts.load(spawned.path / "evaluations" / f"{found.name}.npz")
    assert_equal(headline[1], again)
    assert found.metrics == headline[0].metrics


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _as_torchrun(rank: int, port: int, asked: Any, quietly: Any, folder: Path) -> None:
    """What torchrun sets, and a spy on each step."""
    names = {
        "LOCAL_RANK": rank,
        "RANK": rank,
        "GROUP_RANK": 0,
        "LOCAL_WORLD_SIZE": 2,
        "WORLD_SIZE": 2,
        "MASTER_PORT": port,
    }
    os.environ.update(
        {name: str(value) for name, value in names.items()}
        | {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "test"}
    )
    seen: list[dict[str, Any]] = []
    take = Trainer.take

    def watching(self: Trainer, step: int, batch: Any) -> Any:
        bits: list[int] = []
        look = lambda _, __, out: bits.append(out.element_size() * 8)  # noqa: E731
        hook = self.method.network.extractor.register_forward_hook(look)
        found = take(self, step, batch)
        hook.remove()
        state = {name: value.clone() for name, value in self.method.state_dict().items()}
        low = bool(bits) and min(bits) == 16
        seen.append(
            {
                "half": low,
                "keys": batch.labelled.keys,
                "pool_keys": batch.pool.keys,
                "times": found[0].times,
                "given": found[0].given,
                "state": state,
            }
        )
        return found

    Trainer.take = watching  # type: ignore[method-assign]  # this process ends with the run
    quietly(asked)
    torch.save(seen, folder / f"rank{rank}.pt")


@pytest.fixture(scope="module")
def torchrun(
    job: Any, quietly: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunFolder, list[list[dict[str, Any]]]]:
    """The same run under torchrun's environment, and what each rank saw at each step."""
    folder = tmp_path_factory.mktemp("torchrun")
    asked = job(folder / "runs", devices=2, **TWO)
    multiprocessing.start_processes(_as_torchrun, (_free_port(), asked, quietly, folder), nprocs=2, start_method="fork")
    return plan(asked).folder, [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def test_torchrun_gives_what_spawning_gives(
    spawned: RunFolder, torchrun: Any, weights: Any, same: Any, curves: Any
) -> None:
    folder, _ = torchrun
    assert same(weights(spawned), weights(folder))
    assert curves(spawned) == curves(folder) and spawned.record().metrics == folder.record().metrics


def test_ranks_share_the_batch_and_agree_on_the_weights(torchrun: Any, planned: Any) -> None:
    folder, (first, second) = torchrun
    p = planned(**TWO)
    rows = {(int(r["step"]), r["name"], r["class"]): float(r["value"]) for r in Curves.read(folder.path / "curves.csv")}
    assert not any(step["half"] for step in first)
    for step, (a, b) in enumerate(zip(first, second, strict=True)):
        assert [key.split("#")[1] for key in a["keys"] + b["keys"]] == [str(4 * step + n) for n in range(4)]
        assert [key.split("#")[1] for key in a["pool_keys"] + b["pool_keys"]] == [str(4 * step + n) for n in range(4)]
        assert not set(a["times"].tolist()) & set(b["times"].tolist())  # ranks draw noise of their own
        assert a["given"].sum() > 0 and not torch.equal(a["given"], b["given"])
        counted = [rows[step + 1, "pseudo/count", name] for name in p.domain.card.names]
        assert counted == (a["given"] + b["given"]).tolist()  # curves.csv counts what both gave
        for name in dict(p.build().named_parameters()):
            assert torch.equal(a["state"][name], b["state"][name]), name
    # The class prior follows the pseudo-labels of both, the same on each.
    prior = ClassPrior(p.statistics.pixels, p.settings.diffusion.prior_momentum)
    for a, b in zip(first, second, strict=True):
        prior.update(a["given"] + b["given"])
        assert torch.equal(a["state"]["prior.ema"], b["state"]["prior.ema"])
        torch.testing.assert_close(a["state"]["prior.ema"], prior.ema)


def test_mixed_precision_among_processes(job: Any, quietly: Any, tmp_path: Path) -> None:
    asked = job(tmp_path / "runs", devices=2, train__precision="bf16", **TWO)
    multiprocessing.start_processes(
        _as_torchrun, (_free_port(), asked, quietly, tmp_path), nprocs=2, start_method="fork"
    )
    record = plan(asked).folder.record()
    assert record.status == "done" and record.environment["precision"] == "bf16-mixed"
    for rank in range(2):
        seen = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        assert all(step["half"] for step in seen) and all(step["times"].dtype == torch.float32 for step in seen)


def test_a_batch_that_cannot_be_shared() -> None:
    assert [list(RankSteps(1, 3, 4, rank, 2)) for rank in range(2)] == [[[4, 5], [8, 9]], [[6, 7], [10, 11]]]
    with pytest.raises(jobs.InputError, match=r"train\.batch=4 cannot be divided among 3 devices"):
        RankSteps(0, 3, 4, 0, 3)


def _one_fails(rank: int, asked: Any, quietly: Any, port: int) -> None:
    take = Trainer.take

    def failing(self: Trainer, step: int, batch: Any) -> Any:
        if rank == 1 and step == 2:
            raise RuntimeError("rank 1 is on fire")
        return take(self, step, batch)

    Trainer.take = failing  # type: ignore[method-assign]
    _as_torchrun(rank, port, asked, quietly, Path())


def test_a_rank_that_fails_takes_the_run_with_it(job: Any, quietly: Any, tmp_path: Path) -> None:
    """Nobody waits for ever, and the run does not count as done."""
    asked = job(tmp_path, devices=2, **TWO)
    with pytest.raises(multiprocessing.ProcessRaisedException, match="rank 1 is on fire"):
        multiprocessing.start_processes(_one_fails, (asked, quietly, _free_port()), nprocs=2, start_method="fork")
    assert plan(asked).folder.record().status != "done"


def _one_diverges(rank: int, asked: Any, quietly: Any, port: int) -> None:
    method = registry.method(asked.method)
    losses = method.losses

    def diverging(self: Any, batch: Any, progress: Any) -> Any:
        found = losses(self, batch, progress)
        if rank == 1 and progress.step == 2:
            found.terms["sup"] = found.terms["sup"] * torch.nan
        return found

    method.losses = diverging  # type: ignore[method-assign]
    try:
        _as_torchrun(rank, port, asked, quietly, Path())
    finally:
        time.sleep(2 * rank)  # the first process to end has the others killed: rank 0 shall have written its record


def test_a_loss_that_is_not_finite_on_one_rank_stops_all_and_is_recorded(
    job: Any, quietly: Any, tmp_path: Path
) -> None:
    asked = job(tmp_path, devices=2, **TWO)
    with pytest.raises(multiprocessing.ProcessRaisedException, match="loss not finite at step 2"):
        multiprocessing.start_processes(_one_diverges, (asked, quietly, _free_port()), nprocs=2, start_method="fork")
    folder = plan(asked).folder
    assert folder.record().status == "failed" and "not finite at step 2 on another process" in (
        folder.record().reason or ""
    )
    assert [path.name for path in folder.path.glob("nonfinite_batch_*")] == ["nonfinite_batch_1.pt"]
