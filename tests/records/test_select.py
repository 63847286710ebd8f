"""One rule says which evaluation answers a question about a run."""

from __future__ import annotations

from typing import Any

import pytest

from diffmatch.records.schema import DataId, EvaluationRecord, Labels, RunRecord, SplitId
from diffmatch.records.select import select_evaluation

SAMPLER = {"diffusion": {"steps": 3}, "eval": {"draws": 2}}


def evaluation(value: float, **changes: Any) -> EvaluationRecord:
    fields: dict[str, Any] = {
        "checkpoint": "last",
        "step": 9,
        "selection": "last checkpoint",
        "split": "test",
        "protocol": "whole",
        "steps": 3,
        "draws": 2,
        "seconds": 1.0,
        "images_per_second": 2.0,
        "environment": {},
        "metrics": {"primary": {"value": value}},
    }
    return EvaluationRecord(**(fields | changes))


def run(value: float | None, settings: dict[str, Any] = SAMPLER) -> RunRecord:
    return RunRecord(
        status="done",
        dataset="acdc",
        method="any",
        seed=0,
        preset="quick",
        overrides={},
        labels=Labels(budget="3", unit="cases", items=[], pixels={}),
        split=SplitId(family="any", sha256="0", counts={}),
        data=DataId(root="", fabricated=False, fingerprint="0"),
        card={"protocols": [{"name": "whole"}, {"name": "slices"}]},
        settings=settings,
        hash="0",
        parameters={},
        timing={},
        environment={},
        metrics={} if value is None else {"test": {"primary": {"value": value}}},
    )


HEADLINE = evaluation(0.5)
OTHERS = {
    "val": evaluation(0.6, checkpoint="val"),
    "slices": evaluation(0.7, protocol="slices"),
    "one step": evaluation(0.4, steps=1),
    "one draw": evaluation(0.45, draws=1),
    "pool": evaluation(0.9, split="unlabeled"),
}


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ({}, HEADLINE),
        ({"protocol": "whole", "steps": 3, "draws": 2}, HEADLINE),
        ({"checkpoint": "val"}, OTHERS["val"]),
        ({"protocol": "slices"}, OTHERS["slices"]),
        ({"steps": 1}, OTHERS["one step"]),
        ({"draws": 1}, OTHERS["one draw"]),
        ({"split": "unlabeled"}, OTHERS["pool"]),
        ({"steps": 5}, None),
        ({"split": "val"}, None),
        ({"checkpoint": "val", "protocol": "slices"}, None),
    ],
)
def test_what_is_not_asked_for_is_as_the_headline_has_it(
    asked: dict[str, Any], answer: EvaluationRecord | None
) -> None:
    evaluations = sorted([HEADLINE, *OTHERS.values()], key=lambda each: each.name)
    assert select_evaluation(run(0.5), evaluations, **asked) is answer


def test_the_headline_is_the_evaluation_that_run_json_quotes() -> None:
    assert select_evaluation(run(0.7), [HEADLINE, OTHERS["slices"]]) is OTHERS["slices"]
    assert select_evaluation(run(0.7), [HEADLINE]) is None, "numbers that nothing explains have no evaluation"
    assert select_evaluation(run(0.7), [HEADLINE], protocol="whole", steps=3, draws=2) is HEADLINE, (
        "a full description needs none"
    )


def test_of_equal_numbers_those_of_the_default_protocol_and_sampling_are_the_headline() -> None:
    """A protocol that differs in absent classes only gives the same numbers where no class is absent."""
    twins = [evaluation(0.5, protocol="aaa"), evaluation(0.5, steps=1), HEADLINE]
    assert select_evaluation(run(0.5), twins) is HEADLINE


def test_a_split_that_run_json_does_not_quote_has_its_default_evaluation() -> None:
    assert select_evaluation(run(None), [evaluation(0.7, protocol="slices"), HEADLINE]) is HEADLINE


@pytest.mark.parametrize("asked", [{}, {"steps": 3, "draws": 2}, {"steps": 5}])
def test_a_method_without_a_sampler_answers_any_sampling(asked: dict[str, Any]) -> None:
    only = evaluation(0.5, steps=1, draws=1)
    assert select_evaluation(run(0.5), [only], **asked) is only
    sampled = run(0.5, {"diffusion": {"steps": 1}, "eval": {"draws": 1}})
    assert (select_evaluation(sampled, [only], **asked) is only) == (not asked), "one step may also be a sampler's own"
