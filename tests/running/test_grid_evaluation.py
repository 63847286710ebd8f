"""A cell of a grid finds its evaluation, or makes it once; what is broken is the problem of the cell that needs it."""

from __future__ import annotations

import pytest

from diffmatch.records.folder import RunFolder
from diffmatch.running import grid


@pytest.mark.parametrize("better", ["last", "val"])
def test_oracle_is_the_checkpoint_that_scores_better_on_test(small, console, monkeypatch, better):
    (entry,) = grid.entries([small(train__validations=0)], others=()).values()
    grid.run_missing([entry], console)
    score = grid.evaluation(entry, "last", None, None)
    assert grid.evaluation(entry, "oracle", None, None) is None, "without a val checkpoint there is nothing to choose"

    def scored(folder, checkpoint, *rest, **settings):
        value = 0.9 if checkpoint == better else 0.1
        return score.model_copy(
            update={"checkpoint": checkpoint, "metrics": score.metrics | {"primary": {"value": value}}}
        )

    monkeypatch.setattr(grid, "evaluate_run", scored)
    monkeypatch.setattr(RunFolder, "readable_evaluations", lambda folder: ([], []))
    assert grid.evaluation(entry, "oracle", None, None).checkpoint == better


def test_other_sampler_steps_are_scored_once_and_kept(small, console):
    found = grid.entries([small(method="diffmatch")], others=())
    grid.run_missing(found.values(), console)
    (entry,) = found.values()
    assert grid.evaluation(entry, "last", None, None).steps == 3
    five = grid.evaluation(entry, "last", None, 5)
    assert five.steps == 5
    assert RunFolder(entry.folder.path).evaluation("test")[0].steps == 3, "the headline stays"
    (entry.folder.path / "last.ckpt").unlink()
    assert grid.evaluation(entry, "last", None, 5) == five
    assert grid.evaluation(entry, "last", None, 4) is None
    assert "last.ckpt" in entry.problem


def test_a_method_without_a_sampler_is_scored_once_whatever_draws_are_asked_for(small, console, monkeypatch):
    """Its evaluation is recorded with 1 step and 1 draw."""
    (entry,) = grid.entries([small(eval__draws=2)], others=()).values()
    grid.run_missing([entry], console)
    monkeypatch.setattr(grid, "evaluate_run", lambda *asked, **more: pytest.fail("scored again"))
    for steps in (None, 5):
        scored = grid.evaluation(entry, "last", None, steps)
        assert (scored.steps, scored.draws) == (1, 1)


@pytest.mark.parametrize("suffix", ["json", "npz"])
def test_a_broken_evaluation_is_the_problem_of_what_needs_it_alone(small, console, suffix):
    (entry,) = grid.entries([small(method="diffmatch")], others=()).values()
    grid.run_missing([entry], console)
    headline, one = grid.evaluation(entry, "last", None, None), grid.evaluation(entry, "last", None, 1)
    path = entry.folder.path / "evaluations" / f"{headline.name}.{suffix}"
    path.write_bytes(path.read_bytes()[:10])
    assert grid.evaluation(entry, "last", None, 1) == one
    (entry.folder.path / "last.ckpt").unlink()
    scored = grid.evaluation(entry, "last", None, None)
    if suffix == "npz":
        assert scored == headline and not entry.problem, "a table needs the numbers, not the counts"
    else:
        assert scored is None and str(path) in entry.problem and "last.ckpt" in entry.problem
