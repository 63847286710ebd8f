"""What a post-hoc adjustment (Eq. 7) of each strength makes of finished runs, the same for every method.

    python benchmarks/posthoc.py RUN [RUN ...] [--split val|test] [--tau 0 0.1 0.2 0.3 0.5 1]
    python benchmarks/posthoc.py RUN [RUN ...] --table

A sampler's scores are divided by (C p)^tau at each step, a discriminative method's probabilities once. p is the class
prior of the labelled pixels. For every tau the card's metric, head, tail and ECE are printed, and written as
posthoc.json into the run folder. `--table` prints what was written before, in Markdown: mean and deviation over seeds.
Choose tau on tuning items.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffmatch.diffusion.prior import smoothed
from diffmatch.domain import InputError
from diffmatch.learning.method import Method
from diffmatch.progress import Bar
from diffmatch.records import checkpoint, packed
from diffmatch.records.folder import RunFolder
from diffmatch.running.again import job_of, planned_again
from diffmatch.running.plan import Plan
from diffmatch.scoring.evaluation import evaluate, members
from diffmatch.scoring.metrics import summary
from diffmatch.settings import Section
from diffmatch.shared.files import write_json
from diffmatch_reports.paper_cells import Measured
from diffmatch_reports.wording import changed


def adjusted(planned: Plan, state: dict[str, Any], tau: float) -> Method[Section]:
    """The run's method with the adjustment of Eq. 7 at strength tau.

    Raises:
        InputError: it was trained with `logit`, whose own scores are balanced already.
    """
    changed = planned.settings.diffusion.model_copy(update={"adjustment": "posthoc", "tau": tau})
    method = planned.build(planned.settings.model_copy(update={"diffusion": changed}))
    method.load_state_dict(state)
    if method.sampled and planned.settings.diffusion.adjustment == "logit":
        raise InputError(f"{planned.folder.path}: was trained with diffusion.adjustment=logit and is balanced already")
    if not method.sampled:
        prior = smoothed(torch.tensor(planned.statistics.pixels))
        ratio = (len(prior) * prior).pow(tau).view(1, -1, 1, 1)
        natural = method.probabilities

        def balanced(*args: Any, **kwargs: Any) -> Tensor:
            scores = natural(*args, **kwargs) / ratio
            return scores / scores.sum(1, keepdim=True)

        method.probabilities = balanced  # type: ignore[method-assign]
    return method


def strengths(folder: RunFolder, split: str, taus: list[float], data: Path | None) -> dict[str, Any]:
    planned = planned_again(job_of(folder, data))
    protocol = planned.card.protocol()
    items = members(planned.split, "test" if split == "test" else "val", protocol)
    if not items:
        raise InputError(f"{folder.path}: nothing in '{split}' to score; name another --split")
    state = checkpoint.load(folder.path / "last.ckpt", planned.split.sha256, planned.name)["method"]
    result: dict[str, Any] = {}
    for tau in taus:
        counts = evaluate(
            adjusted(planned, state, tau),
            planned.domain,
            items,
            protocol,
            bar=Bar(f"tau {tau}", len(items)),
            distances=False,
            device=torch.device("cpu"),
        )
        metrics = summary(counts, planned.card, planned.statistics.pixels)
        values = {name: metrics[name]["value"] for name in ("primary", "head", "tail")} | {"ece": metrics["ece"]}
        result[str(tau)] = {name: round(value, 4) for name, value in values.items()}
    return {"run": folder.path.name, "split": split, "items": len(items), "metric": planned.card.metric, "tau": result}


def table(runs: list[Path]) -> str:
    """A row per method and strength from the posthoc.json of runs of one data set.

    A row names the settings that not all runs share.
    """
    records = {run: RunFolder(run).record() for run in runs}
    shared = set.intersection(*(set(changed(record)) for record in records.values()))
    groups: dict[str, list[dict[str, Any]]] = {}
    for run, record in records.items():
        name = ", ".join([record.method, *(setting for setting in changed(record) if setting not in shared)])
        groups.setdefault(name, []).append(json.loads(packed.read_bytes(run / "posthoc.json"))["tau"])
    lines = ["| | tau | n | metric | head | tail | ECE |", "|---|---|---|---|---|---|---|"]
    for name, by_tau in groups.items():
        for tau in by_tau[0]:
            columns = ("primary", "head", "tail", "ece")
            values = [Measured(tuple(100 * scores[tau][column] for scores in by_tau)) for column in columns]
            cells = [f"{v.mean:.1f}" + (f" ± {v.std:.1f}" if v.std is not None else "") for v in values]
            lines.append(f"| {name} | {tau} | {len(by_tau)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--split", choices=["val", "test"], default="val")
    parser.add_argument("--tau", type=float, nargs="+", default=[0.0, 0.1, 0.2, 0.3, 0.5, 1.0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(arguments.runs))
        return
    for run in arguments.runs:
        try:
            result = strengths(RunFolder(run), arguments.split, arguments.tau, arguments.data)
        except InputError as error:
            parser.exit(2, f"error: {error}\n")
        print(run, *(f"{tau}: {row}" for tau, row in result["tau"].items()), sep="\n  ")
        write_json(run / "posthoc.json", result)


if __name__ == "__main__":
    main()
