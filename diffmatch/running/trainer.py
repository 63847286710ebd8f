"""The one training loop: step-based, over infinite streams, the same on a CPU, a GPU or several processes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.distributed
from lightning_fabric import Fabric

from diffmatch.card import ExpectedError
from diffmatch.data.loading import Draws, RankSteps, Stream, loader
from diffmatch.data.splits import Split
from diffmatch.domain import Domain
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.method import Method
from diffmatch.progress import Bar, silent
from diffmatch.records import checkpoint
from diffmatch.records.curves import Curves
from diffmatch.records.folder import RunFolder
from diffmatch.running.meters import Best, Meters
from diffmatch.running.stopping import Stop, StoppedError
from diffmatch.scoring.evaluation import evaluate, evaluate_pool, members
from diffmatch.scoring.metrics import summary
from diffmatch.settings import Section, Settings, Train
from diffmatch.shared.files import write_atomically
from diffmatch.shared.seeds import seed_of

LOG_ROWS = 50
"""Rows of curves.csv that a whole training leaves, per series."""


class DivergenceError(ExpectedError):
    """The loss is not finite: the message says at which step, on which items and at which diffusion times."""


@dataclass
class Trainer:
    """Everything that one process of a training holds."""

    fabric: Fabric
    domain: Domain
    split: Split
    method: Method[Section]
    settings: Settings[Section]
    seed: int
    steps: int
    folder: RunFolder
    run_name: str
    labelled: Stream
    pool: Stream
    workers: int
    pixels: tuple[int, ...]
    writer: Any = None
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        groups = self.method.parameter_groups()
        train = self.settings.train
        if train.optimizer == "sgd":
            optimizer: torch.optim.Optimizer = torch.optim.SGD(
                groups, train.lr, train.momentum, weight_decay=train.weight_decay
            )
        else:
            optimizer = torch.optim.AdamW(groups, train.lr, weight_decay=train.weight_decay)
        self.module, self.optimizer = self.fabric.setup(self.method, optimizer)
        self.module.mark_forward_method("losses")
        self.meters, self.best, self.start, self.elapsed = Meters(), Best(), 0, 0.0
        self.unaccepted: dict[str, int] = {}
        views = self.method.views
        alone = train.batch == self.fabric.world_size and not views.partner
        if views.unlabelled and views.mixing(self.settings.data) > 0 and alone:
            self.warnings.append(
                "CutMix has no partner with one image a device and changes nothing; "
                "give each two (train.batch, --devices)"
            )

    # -- state ---------------------------------------------------------------------------------------------------------

    def save(self, step: int, elapsed: float, name: str = "last.ckpt") -> None:
        if not self.fabric.is_global_zero:
            return
        meters = vars(self.meters)
        content = {
            "run": self.run_name,
            "step": step,
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.fabric._precision.state_dict(),
            "rng": torch.get_rng_state(),
            "settings": self.settings.model_dump(mode="json"),
            "split": self.split.sha256,
            "elapsed": elapsed,
            "best": vars(self.best),
            "meters": meters,
            "unaccepted": self.unaccepted,
            "warnings": self.warnings,
        }
        checkpoint.save(self.folder.path / name, content)

    def resume(self) -> bool:
        """Take up last.ckpt, if there is one. Every process reads it."""
        path = self.folder.path / "last.ckpt"
        if not path.exists():
            return False
        content = checkpoint.load(path, self.split.sha256, self.run_name)
        self.method.load_state_dict(content["method"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.fabric._precision.load_state_dict(content["scaler"])
        torch.set_rng_state(content["rng"])
        self.best, self.meters = Best(**content["best"]), Meters(**content["meters"])
        for name in ("given", "accepted"):
            if (value := getattr(self.meters, name)) is not None:
                setattr(self.meters, name, value.to(self.fabric.device))
        self.unaccepted, self.warnings = content["unaccepted"], content["warnings"]
        self.start, self.elapsed = content["step"], content["elapsed"]
        return True

    # -- the loop ------------------------------------------------------------------------------------------------------

    def run(self) -> float:
        """Train from the checkpoint, or from step 0, to the end. Returns the seconds it took, interruptions left out.

        Raises:
            DivergenceError, StoppedError.
        """
        fabric, train, rank = self.fabric, self.settings.train, self.fabric.global_rank
        self.resume()
        curves = Curves(self.folder.path / "curves.csv", self.start) if fabric.is_global_zero else None
        draws = Draws(self.domain, self.labelled, self.pool, self.settings.data, self.method.views)
        batches = loader(
            draws,
            RankSteps(self.start, self.steps, train.batch, rank, fabric.world_size),
            self.workers,
            fabric.device.type == "cuda",
        )
        audits, validations = milestones(self.steps, train.audits), milestones(self.steps, train.validations)
        log_every = max(1, self.steps // LOG_ROWS)
        began = saved = time.monotonic()
        logged, logged_step, done = began, self.start, self.start
        if self.start == 0:
            self.save(0, 0.0)
        self.method.train()
        with (
            Stop(alone=fabric.world_size == 1) as stop,
            Bar(f"train {self.method.card.name}", self.steps, start=self.start, shown=fabric.is_global_zero) as bar,
        ):
            for step, batch in enumerate(stop.waiting(batches), self.start):
                lr = self.set_rate(step)
                losses, total = self.take(step, batch.to(fabric.device))
                self.meters.add(losses, total)
                done = step + 1
                if done % log_every == 0 or done == self.steps:
                    now = time.monotonic()
                    rate = (done - logged_step) * train.batch / max(now - logged, 1e-9)
                    logged, logged_step = now, done
                    if curves:
                        rows = list(self.meters.rows(done, self.method.card.names, lr, rate))
                        curves.append(rows)
                        self.tensorboard(rows)
                    self.meters = Meters()
                bar.advance(
                    f"loss {total:.4f}  {(done - self.start) * train.batch / (time.monotonic() - began):.1f} img/s"
                )
                if done in audits or done in validations or done == self.steps:
                    self.share_buffers()
                if done in audits:
                    self.audit(done, curves)
                if done in validations:
                    self.validate(done, self.elapsed + time.monotonic() - began)
                if self.agreed(stop.asked):
                    break
                if done < self.steps and time.monotonic() - saved > train.checkpoint_minutes * 60:
                    self.save(done, self.elapsed + time.monotonic() - began)
                    saved = time.monotonic()
            if done > self.start:
                self.save(done, self.elapsed + time.monotonic() - began)
            if done < self.steps:
                raise StoppedError(f"stopped after step {done} of {self.steps}")
        return self.elapsed + time.monotonic() - began

    def set_rate(self, step: int) -> float:
        """Sets each group's rate to lr (1 - step / steps)^poly times the group's scale; returns it without the scale.

        torch's `PolynomialLR` multiplies its last rate and so differs from the formula in the last digits of most steps
        (by 1e-13): a run begun with this formula would not resume to the same bits.
        """
        train = self.settings.train
        lr: float = train.lr * (1 - step / self.steps) ** train.poly
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        return lr

    def take(self, step: int, batch: Batch) -> tuple[Losses, float]:
        """One step. The global generator is seeded by (seed, step, rank): nothing of it needs to survive a restart."""
        torch.manual_seed(seed_of(self.seed, "step", step, self.fabric.global_rank))
        progress = Progress(step, self.steps)
        with self.fabric.autocast():  # on one device Fabric calls the method itself, outside its precision's context
            losses: Losses = self.module.losses(batch, progress)
        loss = losses.total
        total = float(loss.detach())
        finite = bool(torch.isfinite(loss.detach()))
        if self.agreed(not finite):
            self.report_divergence(step, batch, losses, finite)
        self.fabric.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.method.after_step(progress)
        return losses, total

    def report_divergence(self, step: int, batch: Batch, losses: Losses, finite: bool) -> None:
        """Keep the batch and raise, on every rank: one that went on alone would wait for the others for ever."""
        if finite:
            raise DivergenceError(
                f"loss not finite at step {step} on another process; its batch is in nonfinite_batch_<rank>.pt"
            )
        path = self.folder.path / f"nonfinite_batch_{self.fabric.global_rank}.pt"
        write_atomically(path, lambda handle: torch.save(asdict(batch), handle))
        terms = ", ".join(f"{name}={float(value.detach()):g}" for name, value in losses.terms.items())
        times = "" if losses.times is None else f"; t = {', '.join(f'{float(t):.4f}' for t in losses.times)}"
        items = ", ".join(batch.all_keys)
        raise DivergenceError(
            f"loss not finite at step {step} ({terms}) on {items}{times}; the batch is in {path.name}"
        )

    def share_buffers(self) -> None:
        """Copy rank 0's buffers to all ranks, as DDP does before a step.

        Every rank then scores what the checkpoint holds, not statistics of its own.
        """
        if self.fabric.world_size > 1:
            for buffer in self.method.buffers():
                torch.distributed.broadcast(buffer, 0)

    def agreed(self, asked: bool) -> bool:
        """Whether any rank asks for it, so that all ranks stop after the same step."""
        if self.fabric.world_size == 1:
            return asked
        flag = self.fabric.all_reduce(torch.tensor(float(asked), device=self.fabric.device), reduce_op="sum")
        return float(flag) > 0  # type: ignore[arg-type]

    # -- looking at it -------------------------------------------------------------------------------------------------

    def audit(self, step: int, curves: Curves | None) -> None:
        """Compare pseudo-labels of a fixed sample of the pool with the hidden truth.

        Only this, never a loss, sees that truth.
        """
        if not self.method.views.unlabelled:
            return
        pool = members(self.split, "unlabeled", self.domain.card.protocol())
        chosen = [
            pool[i * len(pool) // min(len(pool), self.settings.train.audit_items)]
            for i in range(min(len(pool), self.settings.train.audit_items))
        ]
        if not chosen:
            return
        fabric = self.fabric
        counts = evaluate_pool(
            self.method,
            self.domain,
            chosen,
            bar=silent(),
            device=fabric.device,
            rank=fabric.global_rank,
            world=fabric.world_size,
        )
        series = {
            "audit/truth": counts.confusion.sum(1),
            "audit/predicted": counts.confusion.sum(0),
            "audit/correct": counts.confusion.diagonal(),
            "audit/accepted": counts.accepted.sum(0),
        }
        names = self.method.card.names
        rows = [
            (step, key, name, int(n)) for key, values in series.items() for name, n in zip(names, values, strict=True)
        ]
        if curves:
            curves.append(rows)
            self.tensorboard(rows)
        for c, name in enumerate(names):
            starved = self.pixels[c] > 0 and counts.confusion[c].sum() > 0 and counts.accepted[:, c].sum() == 0
            self.unaccepted[name] = self.unaccepted.get(name, 0) + 1 if starved else 0
        if starving := [f"'{name}'" for name in names if self.unaccepted[name] == 3]:
            self.warnings.append(
                f"step {step}: no pseudo-label of {', '.join(starving)} accepted in three audits running"
            )

    def validate(self, step: int, elapsed: float) -> None:
        """Score val with the code that scores test; val_best.ckpt is the best so far."""
        protocol = self.domain.card.protocol()
        items = members(self.split, "val", protocol)
        if not items:
            return
        fabric = self.fabric
        counts = evaluate(
            self.method,
            self.domain,
            items,
            protocol,
            bar=silent(),
            distances=False,
            device=fabric.device,
            rank=fabric.global_rank,
            world=fabric.world_size,
        )
        value = summary(counts, self.domain.card, self.pixels)["primary"].get("value", float("-inf"))
        if value > self.best.value:
            self.best = Best(value, step)
            self.save(step, elapsed, "val_best.ckpt")

    def tensorboard(self, rows: Iterable[tuple[int, str, str, float | int]]) -> None:
        if self.writer is not None:
            for step, name, klass, value in rows:
                self.writer.add_scalar(f"{name}/{klass}" if klass else name, value, step)


def total_steps(train: Train, pool: int) -> int:
    """Steps of a run: as set, else epochs times pool over the global batch."""
    return train.steps or max(1, round(train.epochs * pool / train.batch))


def milestones(steps: int, times: int) -> set[int]:
    """`times` evenly spread steps, the last one among them."""
    return {max(1, round(steps * (i + 1) / times)) for i in range(times)} if times else set()
