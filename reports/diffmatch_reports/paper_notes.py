"""What stands below a paper table: what its numbers rest on, and why one may not be set against a published one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from diffmatch.records.comparable import FEWEST_CASES
from diffmatch.records.tables import MACHINE, Column, Table
from diffmatch_reports.paper_cells import Filled, Place, Source
from diffmatch_reports.ranking import apart
from diffmatch_reports.wording import few_cases, machines

SELECTION = {
    "last": "last checkpoint",
    "val": "best checkpoint on val",
    "oracle": "better of last and val's best checkpoint ON TEST, which is not a result",
}


def why_not_comparable(
    table: Table, column: Column, source: Source, preset: str, extra: Mapping[str, Any], checkpoint: str = "last"
) -> str:
    """Why a run's number may not be set against the published one; empty where it may."""
    record = source.record
    reasons = []
    if record.data.fabricated:
        reasons.append("invented data")
    if preset != "paper":
        reasons.append(f"{preset} preset")
    if extra:
        reasons.append("settings changed: " + ", ".join(f"{name}={value}" for name, value in extra.items()))
    if table.comparable is None:
        reasons.append("the published protocol is not one of ours")
    else:
        if source.evaluation and source.evaluation.protocol != table.comparable.protocol:
            reasons.append(f"protocol {source.evaluation.protocol}, published {table.comparable.protocol}")
        if record.split.family not in table.comparable.families:
            reasons.append(f"split {record.split.family}, published {' or '.join(table.comparable.families)}")
        if table.comparable.selection:
            reasons.append(f"{SELECTION[checkpoint]}, published {table.comparable.selection}")
    if column.metric in MACHINE:
        reasons.append("measured on another machine")
    return "; ".join(reasons)


def basis(table: Table, cells: Mapping[Place, Filled], preset: str, checkpoint: str) -> list[str]:
    """What the measured numbers rest on: data, preset, encoder, protocol, selection, split hashes."""
    sources = [source for cell in cells.values() if cell.measured for source in cell.sources]
    if not sources:
        return ["Nothing measured yet."]
    records = [source.record for source in sources]
    lines = []
    if any(record.data.fabricated for record in records):
        lines.append(
            "Measured on INVENTED data: the numbers show that the software runs and say nothing "
            "about how well a method works."
        )
    encoders = sorted({f"{r.settings['network']['decoder']} on {r.settings['network']['encoder']}" for r in records})
    several = any(cell.measured and cell.measured.n > 1 for cell in cells.values())
    steps = sorted({int(s.evaluation.step) for s in sources if s.evaluation})
    protocols = sorted({s.evaluation.protocol for s in sources if s.evaluation})
    lines.append(
        f"Measured with the {preset} preset: {', '.join(encoders)}; {', '.join(map(str, steps))} steps; "
        f"{SELECTION[checkpoint]}; protocol {', '.join(protocols)}; "
        f"{'mean ± standard deviation over seeds (how many, or each one)' if several else 'one seed'}"
        f"{', each with its own label draw' if several and table.redraw else ''}."
    )
    splits: dict[str, dict[str, None]] = {}
    for cell in cells.values():
        for source in cell.sources:
            name = f"{source.record.split.family} {source.record.split.sha256[:8]}"
            splits.setdefault(source.record.labels.budget, {})[name] = None
    lines.append("Splits: " + "; ".join(f"{budget}: {', '.join(names)}" for budget, names in splits.items()) + ".")
    if few := few_cases(min((s.evaluation.metrics for s in sources if s.evaluation), key=_cases, default={})):
        lines.append(few)
    lines += [line for line in (apart(cells),) if line]
    groups = sorted({column.metric for column in table.columns} & {"head", "tail"})
    lines += [line for group in groups if (line := differing_classes(group, sources))]
    lines += machines(records)
    commits = {(r.environment.get("git") or {}).get("commit", "unknown")[:8] for r in records}
    if len(commits) > 1:
        lines.append(f"Runs of {len(commits)} commits: {', '.join(sorted(commits))}.")
    return lines


def _cases(metrics: Mapping[str, Any]) -> int:
    return int(metrics.get("cases", FEWEST_CASES))


def differing_classes(group: str, sources: Iterable[Source]) -> str:
    """A sentence that names the classes of `group`, head or tail, by split; empty where all splits have the same.

    Classes rank by labelled pixels, so other labels can have another tail.
    """
    splits: dict[tuple[str, ...], dict[str, None]] = {}
    for source in sources:
        if source.evaluation and (classes := source.evaluation.metrics.get(group, {}).get("classes")):
            splits.setdefault(tuple(sorted(classes)), {})[source.record.split.sha256[:8]] = None
    if len(splits) < 2:
        return ""
    return (
        f"{group.capitalize()} is not the same everywhere: "
        + "; ".join(f"{', '.join(c)} in {', '.join(s)}" for c, s in splits.items())
        + "."
    )
