"""The methods that stand side by side in one figure, and the caption that says what it rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from diffmatch.card import Card
from diffmatch.domain import InputError
from diffmatch.records.counts import Counts
from diffmatch_reports.board import Row, boards
from diffmatch_reports.figures.style import LOOKS, plain
from diffmatch_reports.load import RunView
from diffmatch_reports.wording import SPLITS, changed, labels, plural

APART: dict[str, Callable[[RunView], str]] = {
    "dataset": lambda run: run.record.dataset,
    "data fingerprint": lambda run: run.record.data.fingerprint[:8],
    "split hash": lambda run: run.record.split.sha256[:8],
    "protocol": lambda run: run.protocol,
}
"""What keeps two runs from one board, and from one figure."""


@dataclass(frozen=True)
class Group:
    """The seeds of one method with the same settings; the name tells it from the other groups."""

    name: str
    runs: list[RunView]

    def pooled(self, split: str) -> Counts:
        """The counts of all seeds added up."""
        total = Counts(len(self.runs[0].card.classes))
        for run in self.runs:
            total.merge(run.scores[split].counts)
        return total


@dataclass(frozen=True)
class Comparison:
    """What one figure shows.

    Attributes:
        left_out: runs that lack what the figure needs, in words.
        common: settings that were changed in all runs; what differs stands in the groups' names.
    """

    title: str
    split: str
    groups: list[Group]
    left_out: list[str]
    common: list[str]

    @property
    def first(self) -> RunView:
        return self.groups[0].runs[0]

    @property
    def card(self) -> Card:
        return self.first.card

    @property
    def runs(self) -> list[RunView]:
        return [run for group in self.groups for run in group.runs]

    def caption(self, shown: str = "", note: str = "") -> str:
        """What a figure cut out of its page must still say.

        Args:
            shown: the part of the split that is drawn; without it, all cases of the evaluations.
            note: how the figure is made.
        """
        record = self.first.record
        pooled: dict[str, list[str]] = {}
        for group in self.groups:
            seeds = [run.record.seed for run in group.runs]
            pooled.setdefault(f"{plural(len(seeds), 'seeds')} ({_either(seeds)})", []).append(group.name)
        sentences = [
            f"{self.card.title}, {labels(record)} labelled, {shown or self._scored()}",
            f"Split {record.split.family} (sha256 {record.split.sha256[:8]}), data {record.data.fingerprint[:8]}, "
            f"protocol {self.first.protocol}, {_either(run.record.preset for run in self.runs)} preset",
            "INVENTED DATA: says nothing about how well a method works" if record.data.fabricated else "",
            "; ".join(f"{seeds} of {', '.join(names)}" for seeds, names in pooled.items()),
            f"All with {', '.join(self.common)}" if self.common else "",
            note,
            f"Left out: {'; '.join(self.left_out)}" if self.left_out else "",
        ]
        return plain(" ".join(f"{sentence}." for sentence in sentences if sentence))

    def _scored(self) -> str:
        scores = [run.scores[self.split].record for run in self.runs if self.split in run.scores]
        sampling = _either(f"{plural(score.steps, 'steps')} × {plural(score.draws, 'draws')}" for score in scores)
        n = _either(score.metrics["cases"] for score in scores if "cases" in score.metrics)
        return ", ".join(filter(None, (SPLITS[self.split], f"n = {n} cases" if n else "", "last checkpoint", sampling)))


def compare(title: str, split: str, runs: Sequence[RunView], usable: Callable[[RunView], bool], needs: str, remedy: str) -> Comparison:
    """Group runs into methods, in the order in which they come. The rule of the boards holds: one dataset, split and protocol.

    Args:
        needs, remedy: what makes a run usable, and how to get it, in words.

    Raises:
        InputError: there is no usable run, the runs may not be compared, or there are more methods than can be told apart.
    """
    if not runs:
        raise InputError(f"{title}: no run is given")
    found = boards(runs)
    if len(found) > 1:
        one, other = found[0].first, found[1].first
        apart = "; ".join(f"{what} {get(one)} and {get(other)}" for what, get in APART.items() if get(one) != get(other))
        raise InputError(f"{one.folder} and {other.folder} may not stand in one figure ({apart}): name runs that share them")
    rows = [row for row in found[0].rows if row.runs]
    rows.sort(key=lambda row: min(next(i for i, run in enumerate(runs) if run is one) for one in row.runs))
    groups: list[Group] = []
    left_out: dict[str, list[int]] = {}
    drawn = [row for row in rows if row.status == "done" and any(map(usable, row.runs))]
    common = [what for what in _settings(drawn[0], drawn) if all(what in _settings(row, drawn) for row in drawn)] if drawn else []
    for row in rows:
        kept = [run for run in row.runs if row.status == "done" and usable(run)]
        if kept:
            own = [what for what in _settings(row, drawn) if what not in common]
            groups.append(Group(plain(f"{row.name} ({', '.join(own)})" if own else row.name), kept))
        for run in row.runs:
            if run not in kept:
                why = f"{run.record.method} ({f'without {needs}' if row.status == 'done' else row.status})"
                left_out.setdefault(why, []).append(run.record.seed)
    if not groups:
        raise InputError(f"{title}: {runs[0].folder} and what is given with it have not {needs}: {remedy}")
    if len(groups) > len(LOOKS):
        raise InputError(f"{title}: {len(groups)} methods cannot be told apart in one figure; name {len(LOOKS)} at most")
    preset = {run.record.preset for row in drawn for run in row.runs}  # the caption has it already
    left = [f"{why}, seed {_either(seeds)}" for why, seeds in left_out.items()]
    return Comparison(title, split, groups, left, [what for what in common if what not in preset])


def _settings(row: Row, rows: Sequence[Row]) -> list[str]:
    """What tells a row from others of its figure: preset, changed settings and, where all these are another row's too, the hash."""

    def told(one: Row) -> list[str]:
        record = one.runs[0].record
        return [record.preset, *changed(record)]

    twins = sum(other.name == row.name and told(other) == told(row) for other in rows)
    return [*told(row), *([f"hash {row.runs[0].record.hash[:8]}"] if twins > 1 else [])]


def _either(values: Iterable[object]) -> str:
    """The different values, in order: `600` or `600, 1200`."""
    return ", ".join(dict.fromkeys(map(str, values)))
