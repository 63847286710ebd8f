"""A warm start takes over what fits, says what does not, and is part of what the run is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from diffmatch.cli import invoke
from diffmatch.domain import InputError
from diffmatch.model.source import Weights, digest
from diffmatch.model.start import Start, in_words, read_start, take
from diffmatch.records.folder import RunFolder
from diffmatch.running.again import job_of, prepared
from diffmatch.running.plan import plan
from diffmatch.running.stopping import StoppedError
from diffmatch.running.trainer import Trainer


def test_the_same_method_takes_over_every_network(finished: RunFolder, planned: Any, weights: Any) -> None:
    """The class prior stays that of the run's own labels."""
    method = planned(method__ema=0.9).build()
    prior = method.prior.ema.clone()
    method.prior.labelled.fill_(0.25)
    found = take(method, read_start(finished.path))
    state, trained = method.state_dict(), weights(finished)
    for name, tensor in trained.items():
        if name.startswith("prior."):
            assert name in found.unused
        else:
            assert torch.equal(state[name], tensor)
    assert torch.equal(method.prior.ema, prior) and (method.prior.labelled == 0.25).all()
    assert found.fresh == [] and found.fitted == sum(not name.startswith("prior.") for name in trained)


def test_another_method_takes_the_extractor_and_its_teacher_follows(finished: RunFolder, planned: Any) -> None:
    """What the source's own teacher holds would be taken instead; here it has none."""
    method, start = planned("mean_teacher").build(), read_start(finished.path)
    for name in [name for name in start.weights.tensors if name.startswith("teacher.")]:
        del start.weights.tensors[name]
    found = take(method, start)
    assert found.fresh == ["network.classifier.bias", "network.classifier.weight"]
    assert {name.split(".")[1] for name in found.unused} >= {"denoiser", "codec"}
    teachers = [m for m in method.modules() if getattr(m, "is_teacher", False)]
    assert len(teachers) == 1
    for a, b in zip(teachers[0].state_dict().values(), method.network.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert "network.classifier" in in_words(found) and "2 start fresh" in in_words(found)


def test_two_networks_do_not_become_one(finished: RunFolder, planned: Any) -> None:
    """CPS learns from two networks that differ; the source has one."""
    method = planned("cps").build()
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    found = take(method, read_start(finished.path))
    changed = {
        name.split(".")[0] for name, tensor in method.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert changed == {"network"} and any(not name.startswith("network.") for name in found.fresh)


def test_another_number_of_classes_leaves_the_classifier(planned: Any, finished: RunFolder, tmp_path: Path) -> None:
    start = read_start(finished.path)
    tensors = {
        name: torch.zeros(7, *tensor.shape[1:]) if name.startswith("network.denoiser.classifier") else tensor
        for name, tensor in start.weights.tensors.items()
    }
    found = take(planned(method__ema=0.9).build(), Start(tmp_path, Weights("other", "diffmatch", tensors), "0"))
    assert found.fresh == ["network.denoiser.classifier.bias", "network.denoiser.classifier.weight"]


def test_nothing_that_fits_is_an_error(planned: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.safetensors: no weights of other on set fit this run's networks"):
        take(planned().build(), Start(tmp_path / "a.safetensors", Weights("set", "other", {"w": torch.ones(1)}), "0"))


def test_the_hash_is_that_of_the_weights_and_not_of_the_place(finished: RunFolder, job: Any, tmp_path: Path) -> None:
    base = plan(job(tmp_path))
    warm = plan(job(tmp_path, init=finished.path))
    elsewhere = shutil.copytree(finished.path, tmp_path / "elsewhere")
    assert base.hash != warm.hash == plan(job(tmp_path, init=elsewhere)).hash
    content = torch.load(elsewhere / "last.ckpt", weights_only=True)
    content["method"]["network.extractor.encoder.levels.0.0.weight"][0, 0, 0, 0] += 1
    torch.save(content, elsewhere / "last.ckpt")
    assert plan(job(tmp_path, init=elsewhere)).hash not in (base.hash, warm.hash)


def test_a_warm_run_is_recorded_and_resumes_without_its_source(
    finished: RunFolder, job: Any, quietly: Any, weights: Any, same: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, unscored: None,
) -> None:  # fmt: skip
    source = shutil.copytree(finished.path, tmp_path / "source")
    asked = job(tmp_path / "runs", "fixmatch", init=source)
    whole = quietly(job(tmp_path / "whole", "fixmatch", init=finished.path))
    first = torch.load(whole.path / "last.ckpt", weights_only=True)
    assert first["step"] == 6
    take_step = Trainer.take

    def stop_at_two(self: Trainer, step: int, batch: Any) -> Any:
        if step == 2:
            raise StoppedError("stopped")
        return take_step(self, step, batch)

    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(Trainer, "take", stop_at_two)
        quietly(asked)
    run = plan(asked).folder
    begun = weights(run)  # the checkpoint of step 0
    trained = weights(finished)
    assert torch.equal(
        begun["network.extractor.encoder.levels.0.0.weight"], trained["network.extractor.encoder.levels.0.0.weight"]
    )
    shutil.rmtree(source)
    assert quietly(job_of(run)).record().status == "done"
    record = run.record()
    assert record.init is not None and record.init.sha256 == digest(trained) and record.init.method == "diffmatch"
    assert record.init == whole.record().init.model_copy(update={"source": str(source)})  # type: ignore[union-attr]
    assert same(weights(run), weights(whole)) and prepared(job_of(run)).hash == record.hash


def test_init_on_the_command_line(
    finished: RunFolder, few: Path, stub: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [word for key, value in stub(train__steps=1).items() for word in ("--set", f"{key}={value}")]
    words = ["bench", "acdc", "--labels", "1", "--data", str(few), "--method", "unimatch", "--workers", "0", *sets]
    assert invoke([*words, "--out", str(tmp_path), "--init", str(finished.path)]) == 0
    out = capsys.readouterr().out
    assert "tensors taken over; 2 start fresh (network.classifier)" in out and "are not used" in out
    assert invoke([*words, "--out", str(tmp_path), "--init", str(tmp_path / "nothing")]) == 2
    assert "nothing: no such run folder or file" in capsys.readouterr().err
