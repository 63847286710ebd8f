"""Which evaluation of a run a number is read from: one rule for reports, tables and the grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from diffmatch.records.schema import EvaluationRecord, RunRecord


def select_evaluation(
    run: RunRecord,
    evaluations: Iterable[EvaluationRecord],
    *,
    split: str = "test",
    checkpoint: str = "last",
    protocol: str | None = None,
    steps: int | None = None,
    draws: int | None = None,
) -> EvaluationRecord | None:
    """The evaluation of a checkpoint on a split, scored by a protocol with so many sampler steps and draws.

    The headline of a split is the evaluation of the last checkpoint whose numbers stand in run.json. An argument
    that is None takes the headline's value, so a call without arguments gives the headline on test.

    A method without a sampler is scored with 1 step and 1 draw whatever its settings say. Where the headline shows this
    (1 x 1 although the settings ask for more), `steps` and `draws` are not compared.

    Args:
        run: the run's own record.
        evaluations: all evaluations of the run.

    Returns:
        None where the run has no such evaluation, and where an argument is None and the split has no headline.
    """
    known = list(evaluations)
    headline = _headline(run, known, split)
    if headline is not None:
        protocol = protocol or headline.protocol
        if (headline.steps, headline.draws) == (1, 1) != _sampling(run.settings):
            steps, draws = 1, 1
        steps, draws = steps or headline.steps, draws or headline.draws
    wanted = split, checkpoint, protocol, steps, draws
    if headline is not None and wanted == _identity(headline):
        return headline
    return next((each for each in known if _identity(each) == wanted), None)


def _headline(run: RunRecord, evaluations: Iterable[EvaluationRecord], split: str) -> EvaluationRecord | None:
    """The last checkpoint's evaluation that run.json names or quotes; any of the split where it has no numbers of it.

    Records of schema 1 name none. There two protocols can give the same numbers, for example where no class is absent;
    then the card's default protocol and the settings' own sampling come first, because a run is scored with these when
    its training ends.
    """
    known = list(evaluations)
    if named := [each for each in known if each.name == run.headlines.get(split)]:
        return named[0]
    quoted = run.metrics.get(split)
    protocols = run.card.get("protocols") or [{}]

    def distance(each: EvaluationRecord) -> tuple[bool, bool, str]:
        return each.protocol != protocols[0].get("name"), (each.steps, each.draws) != _sampling(run.settings), each.name

    fitting = (e for e in known if e.split == split and e.checkpoint == "last" and quoted in (None, e.metrics))
    return min(fitting, key=distance, default=None)


def _sampling(settings: Mapping[str, Any]) -> tuple[int, int]:
    """Sampler steps and draws of the settings; 1 where a record has none."""
    return settings.get("diffusion", {}).get("steps", 1), settings.get("eval", {}).get("draws", 1)


def _identity(each: EvaluationRecord) -> tuple[str, str, str, int, int]:
    return each.split, each.checkpoint, each.protocol, each.steps, each.draws
