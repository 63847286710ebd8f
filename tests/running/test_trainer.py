"""The loop: resuming, stopping, being killed, diverging."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from diffmatch.methods.diffmatch import DiffMatch
from diffmatch.records.curves import Curves
from diffmatch.records.folder import RunFolder
from diffmatch.running import job as jobs
from diffmatch.running import trainer as training
from diffmatch.running.plan import plan
from diffmatch.running.stopping import StoppedError
from diffmatch.running.trainer import Trainer, milestones, total_steps

CUT = {"method__ema": 0.9, "data__cutmix": 0.5}
"""On top of the stub: everything that has a state or a random choice is on."""


def interrupt_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while step `step` is being taken."""
    take = Trainer.take

    def taking(self: Trainer, at: int, batch: Any) -> Any:
        if at == step:
            os.kill(os.getpid(), signal.SIGINT)
        return take(self, at, batch)

    monkeypatch.setattr(Trainer, "take", taking)


@pytest.fixture(scope="module")
def undisturbed(job: Any, quietly: Any, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return quietly(job(tmp_path_factory.mktemp("undisturbed"), **CUT))


def assert_same_run(a: RunFolder, b: RunFolder, weights: Any, same: Any, curves: Any) -> None:
    assert same(weights(a), weights(b))
    assert same(weights(a, "val_best.ckpt"), weights(b, "val_best.ckpt"))
    assert curves(a) == curves(b)
    assert a.record().metrics == b.record().metrics and a.record().metrics
    assert a.record().hash == b.record().hash


@pytest.mark.parametrize("log_rows", [50, 2], ids=["a row each step", "a row each third step"])
def test_2n_steps_are_n_and_n(
    log_rows: int,
    undisturbed: Any,
    job: Any,
    quietly: Any,
    weights: Any,
    same: Any,
    curves: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C after step 4 of 6 leaves `interrupted`; the same command goes on. Weights, metrics and curves are those of
    one go."""
    monkeypatch.setattr(training, "LOG_ROWS", log_rows)
    if log_rows != 50:
        undisturbed = quietly(job(tmp_path / "reference", **CUT))
    asked = job(tmp_path / "stopped", **CUT)
    with monkeypatch.context() as patch:
        interrupt_at(3, patch)
        handler = signal.getsignal(signal.SIGINT)
        with pytest.raises(StoppedError, match="after step 4 of 6"):
            quietly(asked)
        assert signal.getsignal(signal.SIGINT) is handler
    folder = plan(asked).folder
    record = folder.record()
    assert record.status == "interrupted" and "step 4 of 6" in (record.reason or "") and not record.metrics
    assert torch.load(folder.path / "last.ckpt", weights_only=True)["step"] == 4
    assert_same_run(undisturbed, quietly(asked), weights, same, curves)
    record = folder.record()
    assert record.status == "done" and record.reason is None


def test_the_checkpoint_and_not_a_fresh_start_is_taken_up(
    job: Any, quietly: Any, weights: Any, same: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unscored: None
) -> None:
    """Only the remaining steps are taken, with the momentum, the learning rate and the draws as they stood."""
    asked = job(tmp_path)
    with monkeypatch.context() as patch:
        interrupt_at(3, patch)
        with pytest.raises(StoppedError):
            quietly(asked)
    taken: list[tuple[int, float, list[str]]] = []
    take = Trainer.take

    def watching(self: Trainer, step: int, batch: Any) -> Any:
        taken.append((step, self.optimizer.param_groups[0]["lr"], batch.labelled.keys))
        return take(self, step, batch)

    monkeypatch.setattr(Trainer, "take", watching)
    quietly(asked)
    whole = quietly(job(tmp_path / "whole"))
    assert [step for step, *_ in taken] == [4, 5, *range(6)]
    assert taken[:2] == taken[-2:]
    assert whole.record().status == "done"


def killed_after(step: int, asked: Any, quietly: Any) -> None:
    """Start the job in another process and kill it with no warning once a checkpoint of at least `step` is on disk."""
    path = plan(asked).folder.path / "last.ckpt"
    process = multiprocessing.get_context("fork").Process(target=quietly, args=(asked,))
    process.start()
    deadline = time.monotonic() + 120
    while process.is_alive() and time.monotonic() < deadline:
        if path.exists() and torch.load(path, weights_only=True)["step"] >= step:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL, "the run ended before it was killed"


def test_kill_9_at_any_moment(job: Any, quietly: Any, weights: Any, same: Any, curves: Any, tmp_path: Path) -> None:
    """The run is killed twice, at random steps, in the middle of whatever it does; what comes out is what an
    undisturbed run gives."""
    settings = CUT | {
        "train__steps": 30,
        "train__checkpoint_minutes": 1e-6,
        "train__audits": 5,
        "train__validations": 5,
    }
    asked = job(tmp_path / "killed", **settings)
    seed = random.SystemRandom().randrange(1000)
    print(f"killed by random.Random({seed})")
    moments = sorted(random.Random(seed).sample(range(1, 22), 2))
    folder = plan(asked).folder
    for moment in moments:
        killed_after(moment, asked, quietly)
        record = folder.record()
        assert record.status == "running" and not record.metrics
        with (folder.path / "curves.csv").open("a") as handle:
            handle.write("29,loss/tot")  # a line cut off by the kill
    assert_same_run(quietly(job(tmp_path / "whole", **settings)), quietly(asked), weights, same, curves)


@pytest.mark.parametrize("name", ["diffmatch", "supervised"])
def test_workers_do_not_matter(
    name: str, job: Any, quietly: Any, weights: Any, same: Any, curves: Any, tmp_path: Path, unscored: None
) -> None:
    runs = [
        quietly(job(tmp_path / str(workers), name, workers=workers, **({"data__cutmix": 0.5}))) for workers in (0, 2)
    ]
    assert same(*map(weights, runs)) and curves(runs[0]) == curves(runs[1])


def test_adamw_resumes_too(
    job: Any, quietly: Any, weights: Any, same: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unscored: None
) -> None:
    asked = job(tmp_path / "stopped", "fixmatch", train__optimizer="adamw", train__lr=1e-3)
    with monkeypatch.context() as patch:
        interrupt_at(2, patch)
        with pytest.raises(StoppedError):
            quietly(asked)
    whole = quietly(job(tmp_path / "whole", "fixmatch", train__optimizer="adamw", train__lr=1e-3))
    assert same(weights(quietly(asked)), weights(whole))


def test_sigterm_stops_as_ctrl_c_does(job: Any, quietly: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a batch queue sends at the end of its time."""
    take = Trainer.take

    def taking(self: Trainer, step: int, batch: Any) -> Any:
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return take(self, step, batch)

    monkeypatch.setattr(Trainer, "take", taking)
    asked = job(tmp_path)
    with pytest.raises(StoppedError):
        quietly(asked)
    assert plan(asked).folder.record().status == "interrupted"


def test_curves_hold_what_happened(undisturbed: RunFolder) -> None:
    rows = list(Curves.read(undisturbed.path / "curves.csv"))
    assert all(float(row["value"]) == float(row["value"]) for row in rows)
    steps = {name: [int(row["step"]) for row in rows if row["name"] == name] for name in {row["name"] for row in rows}}
    assert steps["loss/sup"] == steps["loss/unsup"] == steps["lr"] == [1, 2, 3, 4, 5, 6]
    value = {(int(row["step"]), row["name"], row["class"]): float(row["value"]) for row in rows}
    for step in range(1, 7):
        assert value[step, "loss/total", ""] == pytest.approx(
            value[step, "loss/sup", ""] + value[step, "loss/unsup", ""], rel=1e-5
        )
        assert value[step, "lr", ""] == pytest.approx(0.01 * (1 - (step - 1) / 6) ** 0.9)
    names = [c["name"] for c in undisturbed.record().card["classes"]]
    for step in (3, 6):  # two audits of three pool items each: every hidden pixel is counted once
        truth, predicted, correct, accepted = (
            [value[step, f"audit/{key}", name] for name in names]
            for key in ("truth", "predicted", "correct", "accepted")
        )
        assert sum(truth) == sum(predicted) > 3 * 100 * 100
        assert all(c <= min(t, p) for c, t, p in zip(correct, truth, predicted, strict=True))
        assert all(a <= p for a, p in zip(accepted, predicted, strict=True))
    assert all(0 < sum(value[step, "pseudo/count", name] for name in names) <= 2 * 32 * 32 for step in range(1, 7))


def test_a_class_that_no_pseudo_label_accepts_is_warned_of(
    job: Any, quietly: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unscored: None
) -> None:
    folder = quietly(job(tmp_path, train__steps=4, train__audits=4, method__threshold=1.0))
    warned = folder.record().warnings
    assert [w for w in warned if "left ventricle" in w and w.startswith("step 3: ")] and len(warned) == 1
    assert quietly(job(tmp_path, train__steps=4, train__audits=2, method__threshold=1.0)).record().warnings == []


def test_a_loss_that_is_not_finite_stops_the_run(
    job: Any, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With step, items and diffusion times in one line, exit code 1, the batch on disk and the run `failed`."""
    losses = DiffMatch.losses
    asked = job(tmp_path, train__lr=0.02)

    def diverging(self: DiffMatch, batch: Any, progress: Any) -> Any:
        found = losses(self, batch, progress)
        if progress.step == 2:
            found.terms["unsup"] = found.terms["unsup"] * float("nan")
        return found

    monkeypatch.setattr(DiffMatch, "losses", diverging)
    code = cli(asked)
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 1
    folder = plan(asked).folder
    record = folder.record()
    assert record.status == "failed" and not record.metrics
    batch = torch.load(folder.path / "nonfinite_batch_0.pt", weights_only=True)
    for text in (told, record.reason or ""):
        assert "step 2" in text and "unsup=nan" in text and "t = 0." in text
        assert all(key in text for key in (*batch["labelled"]["keys"], *batch["pool"]["keys"]))
    assert batch["labelled"]["images"].shape == (2, 1, 1, 32, 32)
    assert torch.load(folder.path / "last.ckpt", weights_only=True)["step"] == 0  # nothing of the bad step is kept


def test_a_crash_is_a_failure_with_its_reason_and_is_tried_again(
    undisturbed: RunFolder,
    job: Any,
    cli: Any,
    quietly: Any,
    weights: Any,
    same: Any,
    curves: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = job(tmp_path, **CUT)
    with monkeypatch.context() as patch:
        losses = DiffMatch.losses

        def crashing(self: DiffMatch, batch: Any, progress: Any) -> Any:
            if progress.step == 3:
                raise RuntimeError("the machine is on fire")
            return losses(self, batch, progress)

        patch.setattr(DiffMatch, "losses", crashing)
        assert cli(asked) == 1
    record, log = plan(asked).folder.record(), (plan(asked).folder.path / "log.txt").read_text()
    assert record.status == "failed" and record.reason == "RuntimeError: the machine is on fire" and not record.metrics
    assert "the machine is on fire" in log
    again = quietly(asked)
    assert again.record().status == "done" and again.record().reason is None
    assert_same_run(undisturbed, again, weights, same, curves)


def test_interrupt_in_the_middle_of_scoring(
    job: Any, quietly: Any, weights: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training is not repeated."""
    asked = job(tmp_path, "fixmatch")

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "score_run", stop)
        with pytest.raises(KeyboardInterrupt):
            quietly(asked)
    assert plan(asked).folder.record().status == "interrupted"

    def not_again(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Trainer, "take", not_again)
    record = quietly(asked).record()
    assert record.status == "done" and record.metrics["test"] and record.timing["train_seconds"] > 0


@pytest.mark.parametrize("precision, dtype", [("32", torch.float32), ("bf16", torch.bfloat16)])
@pytest.mark.parametrize("name", ["diffmatch", "fixmatch"])
def test_the_precision_that_is_recorded_is_the_one_trained_with(
    name: str,
    precision: str,
    dtype: torch.dtype,
    job: Any,
    quietly: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unscored: None,
) -> None:
    """Convolutions run in it; losses are float32 in any case."""
    seen: list[tuple[torch.dtype, torch.dtype]] = []
    take = Trainer.take

    def watching(self: Trainer, step: int, batch: Any) -> Any:
        inside: list[torch.dtype] = []
        with self.method.network.extractor.register_forward_hook(lambda _, __, z: inside.append(z.dtype)):
            found = take(self, step, batch)
        seen.extend((z, found[0].total.dtype) for z in inside)
        return found

    monkeypatch.setattr(Trainer, "take", watching)
    record = quietly(job(tmp_path, name, train__precision=precision, train__audits=0, train__validations=0)).record()
    assert record.environment["precision"] == {"32": "32-true", "bf16": "bf16-mixed"}[precision]
    assert len(seen) >= 6 and set(seen) == {(dtype, torch.float32)}


def test_steps_from_epochs_and_milestones(planned: Any) -> None:
    train = planned(train__steps=0, train__epochs=3.0, train__batch=4).settings.train
    assert total_steps(train, 100) == 75  # an epoch is one pass over the unlabelled pool
    assert total_steps(planned(train__steps=7).settings.train, 100) == 7
    assert total_steps(planned(train__steps=0, train__epochs=0.001).settings.train, 3) == 1
    assert milestones(10, 3) == {3, 7, 10} and milestones(2, 5) == {1, 2} and milestones(10, 0) == set()


@pytest.mark.parametrize(
    ("method", "changes", "told"),
    [
        ("u2pl", {}, True),
        ("u2pl", {"train__batch": 2}, False),
        ("u2pl", {"data__cutmix": 0.0}, False),
        ("unimatch", {}, False),
    ],
)
def test_cutmix_without_a_partner_is_told(method, changes, told, job, quietly, tmp_path, unscored):
    """With one image a device the next image of the batch is the image itself; UniMatch pastes a draw of its own."""
    asked = {"train__batch": 1, "train__steps": 1, "train__audits": 0, "train__validations": 0} | changes
    warnings = quietly(job(tmp_path, method, **asked)).record().warnings
    assert any("CutMix has no partner" in line for line in warnings) == told
