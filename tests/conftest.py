"""Shared by all tests: no test writes to the home folder, and a network of some 40,000 parameters on a few invented
patients."""

from __future__ import annotations

import copy
import csv
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from diffmatch import plugins
from diffmatch.conformance.method import fit as conformance_fit
from diffmatch.data.loading import Draws, Stream, collate
from diffmatch.learning import registry
from diffmatch.learning.batch import Batch
from diffmatch.learning.method import Method
from diffmatch.networks.flow import Flow
from diffmatch.records.folder import RunFolder
from diffmatch.running import job as jobs
from diffmatch.running.plan import Job, Plan, plan

STUB: dict[str, Any] = {
    "network.encoder": "plain2",
    "network.dim": 16,
    "network.heads": 2,
    "network.layers": 1,
    "network.stride": 2,
    "data.resize": 32,
    "data.crop": 32,
    "train.batch": 2,
    "train.steps": 6,
    "train.optimizer": "sgd",
    "train.lr": 0.01,
    "train.loss": "ce_dice",
    "train.audits": 2,
    "train.audit_items": 3,
    "train.validations": 3,
    "eval.samples": 1,
}
PATIENTS = (99, 21, 2, 1)
"""Labelled at budget 1, unlabelled, val, test: two volumes each."""


@pytest.fixture(scope="session", autouse=True)
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of this session, no data of the user's, one thread: bit-equality is promised for equal thread counts."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFMATCH_CACHE", str(cache))
        patch.delenv("DIFFMATCH_DATA", raising=False)
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("COLUMNS", "200")
        torch.set_num_threads(1)
        yield cache


@pytest.fixture(scope="session")
def acdc_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ACDC's plugin fabricates. Read only."""
    root = tmp_path_factory.mktemp("acdc-fabricated")
    plugins.domain("acdc").fabricate(root)
    return root


@pytest.fixture(scope="session")
def few(acdc_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One labelled, one unlabelled, one val and one test patient of it. Read only."""
    root = tmp_path_factory.mktemp("acdc-few")
    for number in PATIENTS:
        name = f"patient{number:03d}"
        shutil.copytree(acdc_root / "training" / name, root / "training" / name)
    return root


@pytest.fixture(scope="session")
def stub() -> Callable[..., dict[str, Any]]:
    """`stub(train__steps=3)`: overrides for a tiny run, changed where said (two underscores for the dot)."""
    return lambda **changes: copy.deepcopy(STUB) | {key.replace("__", "."): value for key, value in changes.items()}


@pytest.fixture(scope="session")
def job(few: Path, stub: Callable[..., dict[str, Any]]) -> Callable[..., Job]:
    """`job(out, method, workers=.., train__steps=..)`: a tiny job on the few patients; names of Job's own fields go to
    the job."""

    def make(out: Path, method: str = "diffmatch", **changes: Any) -> Job:
        own = {key: changes.pop(key) for key in list(changes) if key in Job.__dataclass_fields__}
        return Job(
            **{
                "dataset": "acdc",
                "method": method,
                "labels": "1",
                "data": few,
                "out": out,
                "overrides": stub(**changes),
                "workers": 0,
            }
            | own
        )

    return make


@pytest.fixture(scope="session")
def planned(job: Callable[..., Job], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Plan]:
    """`planned(method, ...)`: the same job resolved; nothing is written."""
    nowhere = tmp_path_factory.mktemp("nowhere")
    return lambda method="diffmatch", **changes: plan(job(nowhere, method, **changes))


@pytest.fixture(scope="session")
def draw() -> Callable[..., Batch]:
    """`draw(plan, count, first)`: a batch as training draws it."""

    def make(planned: Plan, count: int = 2, first: int = 0, method: Method | None = None) -> Batch:
        views = (method or registry.method(planned.job.method)).views
        streams = [
            Stream(items, planned.job.seed, name)
            for name, items in enumerate((planned.split.labelled, planned.split.unlabelled))
        ]
        draws = Draws(planned.domain, *streams, planned.settings.data, views)
        return collate([draws[n] for n in range(first, first + count)])

    return make


@pytest.fixture(scope="session")
def fit() -> Callable[..., list[dict[str, float]]]:
    """`fit(method, batches)`: the conformance suite's optimiser steps; the loss terms of each."""
    return conformance_fit


@pytest.fixture
def unscored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs end after training: their weights and curves are looked at, not their scores."""
    monkeypatch.setattr(jobs, "score_run", lambda *_: None)


@pytest.fixture(scope="session")
def quietly() -> Callable[[Job], RunFolder]:
    """Run a job without output."""
    return lambda job: jobs.run(job, Console(file=io.StringIO()))


@pytest.fixture(scope="session")
def finished(
    job: Callable[..., Job], quietly: Callable[[Job], RunFolder], tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    """A run that was never disturbed, with an EMA teacher. Read only."""
    return quietly(job(tmp_path_factory.mktemp("finished"), method__ema=0.9))


@pytest.fixture(scope="session")
def weights() -> Callable[..., dict[str, torch.Tensor]]:
    """State of the method in a run folder's checkpoint."""
    return lambda folder, name="last.ckpt": torch.load(folder.path / name, weights_only=True)["method"]


@pytest.fixture(scope="session")
def same() -> Callable[..., bool]:
    """Whether two states have the same names and bits."""

    def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
        return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

    return equal


@pytest.fixture(scope="session")
def curves() -> Callable[[RunFolder], list[tuple[str, ...]]]:
    """Rows of curves.csv as written, without the one series that measures time."""

    def rows(folder: RunFolder) -> list[tuple[str, ...]]:
        with (folder.path / "curves.csv").open(newline="") as handle:
            return [tuple(row) for row in csv.reader(handle) if row[1] != "images_per_second"]

    return rows


@pytest.fixture
def labelled_two() -> Callable[[Plan], Plan]:
    """The plan with only two of its labelled images."""
    return lambda planned: replace(
        planned, split=replace(planned.split, labelled=planned.split.labelled[:2]), pixels=planned.pixels[:2]
    )


def pytest_configure() -> None:
    os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(scope="session")
def cli() -> Callable[[Job], int]:
    """`diffmatch bench` in this process for a job; the exit code."""
    from diffmatch.cli import invoke

    def bench(asked: Job) -> int:
        flags = {
            "--labels": asked.labels,
            "--method": asked.method,
            "--seed": asked.seed,
            "--preset": asked.preset,
            "--data": asked.data,
            "--out": asked.out,
            "--devices": asked.devices,
            "--workers": asked.workers,
        }
        words = [str(word) for pair in flags.items() if pair[1] is not None for word in pair]
        sets = [word for key, value in asked.overrides.items() for word in ("--set", f"{key}={value}")]
        return invoke(["bench", asked.dataset, *words, *sets])

    return bench


@pytest.fixture
def install_plugin(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Path], Path]]:
    """`install_plugin(folder)`: a plugin's wheel unpacked where this test finds it, offline and gone afterwards; where
    it was unpacked.

    As in an editable install, its modules are those of the folder.
    """
    sites = []

    def install(folder: Path) -> Path:
        site, wheels = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("wheels")
        build = f"from setuptools.build_meta import build_wheel; build_wheel({str(wheels)!r})"
        subprocess.run([sys.executable, "-c", build], cwd=folder, check=True, capture_output=True)
        (wheel,) = wheels.iterdir()
        shutil.unpack_archive(wheel, site, "zip")
        for module in site.glob("*.py"):
            module.unlink()
            module.symlink_to(folder.resolve() / module.name)
        monkeypatch.syspath_prepend(site)
        sites.append(site)
        return site

    yield install
    plugins.domains.forget()
    registry.methods.forget()
    for name, module in list(sys.modules.items()):
        if any(str(site) in str(getattr(module, "__file__", "")) for site in sites):
            del sys.modules[name]


@pytest.fixture
def golden_flow() -> Flow:
    """Two couplings of six channels, hidden width 5, with weights, means and permutations written down.

    DDFP's authors' numbers are of this flow.
    """
    flow = Flow(3, 6, hidden=5)
    nets = [net for coupling in flow.couplings for net in (coupling.of_second, coupling.of_first)]

    def wave(like: torch.Tensor, rate: float, shift: float = 0.0) -> torch.Tensor:
        return torch.sin(torch.arange(like.numel()).float() * rate + shift).view(like.shape)

    with torch.no_grad():
        for k, parameter in enumerate(p for net in nets for p in net.parameters()):
            parameter.copy_(0.4 * wave(parameter, 1.7, k))
        flow.means.copy_(wave(flow.means, 1.3))
    flow.orders.copy_(torch.tensor([[5, 2, 1, 3, 0, 4], [2, 1, 4, 0, 3, 5]]))
    return flow
