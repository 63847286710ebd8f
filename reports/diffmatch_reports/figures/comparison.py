"""The methods that stand side by side in one figure, and the caption that says what it rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from diffmatch.card import Card
from diffmatch.domain import InputError
from diffmatch.records.counts import Counts
from diffmatch_reports.board import Board, Row, boards
from diffmatch_reports.load import RunView
from diffmatch_reports.plots.spec import STYLES
from diffmatch_reports.wording import SPLITS, changed, few_cases, labels, plural, training


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
        kind: of figure, its title.
        left_out: runs that lack what the figure needs, or are not comparable with those shown, in words.
        common: settings that were changed in all runs; what differs stands in the groups' names.
    """

    kind: str
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

    def caption(self, note: str, drawn: str = "") -> str:
        """What a figure cut out of its page must still say; `drawn` is what it shows if not all cases."""
        record = self.first.record
        pooled: dict[str, list[str]] = {}
        for group in self.groups:
            seeds = [run.record.seed for run in group.runs]
            pooled.setdefault(f"{plural(len(seeds), 'seeds')} ({_either(seeds)})", []).append(group.name)
        sentences = [
            f"{self.card.title}, {labels(record)} labelled, {drawn or self._scored()}",
            f"Split {record.split.family} (sha256 {record.split.sha256[:8]}), data {record.data.fingerprint[:8]}, "
            f"protocol {self.first.protocol}, {training(self.first.conditions)}",
            "INVENTED DATA: says nothing about how well a method works" if record.data.fabricated else "",
            few_cases(self.first.metrics("test")).partition(".")[0],
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


class Need(NamedTuple):
    """What a figure needs of a run: whether a run has it, what it is in words, and how to get it."""

    met: Callable[[RunView], bool]
    words: str
    remedy: str


def together(runs: Sequence[RunView]) -> tuple[Board, list[str]]:
    """The board of comparable runs that has the most methods, of several the newest; of the other boards, a line each.

    Raises:
        InputError: several runs are given, and no two are comparable.
    """
    board, *others = sorted(boards(runs), key=lambda one: (len(one.runs) > 1, one.methods, one.newest), reverse=True)
    if others and len(board.runs) == 1:
        differences = "; ".join(board.first.conditions.differences(others[0].first.conditions))
        both = f"{board.first.folder} and {others[0].first.folder} may not stand in one figure"
        raise InputError(f"{both} ({differences}): name runs that share them")
    return board, [not_comparable(other, board) for other in others]


def not_comparable(other: Board, board: Board) -> str:
    """`2 runs of fixmatch, unimatch (weights: hub against none)`: a board that is not shown beside `board`."""
    methods = _either(run.record.method for run in other.runs)
    differences = "; ".join(other.first.conditions.differences(board.first.conditions))
    return f"{plural(len(other.runs), 'runs')} of {methods} ({differences})"


def compare(kind: str, split: str, runs: Sequence[RunView], need: Need, apart: Sequence[str] = ()) -> Comparison:
    """Group comparable runs into methods, in the order in which they come.

    Args:
        apart: what the caller has left out of `runs` already, in words.

    Raises:
        InputError: no run has what is needed, no two may be compared, or methods are too many to be told apart.
    """
    if not runs:
        raise InputError(f"{kind}: no run is given")
    board, others = together(runs)
    place = {id(run): position for position, run in enumerate(runs)}
    rows = sorted((row for row in board.rows if row.runs), key=lambda row: min(place[id(run)] for run in row.runs))
    drawn: list[tuple[Row, list[RunView]]] = []
    left_out: dict[str, list[int]] = {}
    for row in rows:
        kept: list[RunView] = []
        reason = f"without {need.words}" if row.status == "done" else row.status
        for run in row.runs:
            if row.status == "done" and need.met(run):
                kept.append(run)
            else:
                left_out.setdefault(f"{run.record.method} ({reason})", []).append(run.record.seed)
        drawn += [(row, kept)] if kept else []
    if not drawn:
        raise InputError(f"{kind}: {runs[0].folder} and what is given with it have not {need.words}: {need.remedy}")
    if len(drawn) > len(STYLES):
        most = f"name {len(STYLES)} at most"
        raise InputError(f"{kind}: {len(drawn)} methods cannot be told apart in one figure; {most}")
    settings = [_settings(row, [row for row, _ in drawn]) for row, _ in drawn]
    common = [text for text in settings[0] if all(text in texts for texts in settings)]
    groups = []
    for (row, kept), texts in zip(drawn, settings, strict=True):
        own = ", ".join(text for text in texts if text not in common)
        groups.append(Group(plain(f"{row.name} ({own})" if own else row.name), kept))
    missing = [f"{reason}, seed {_either(seeds)}" for reason, seeds in left_out.items()] + [*others, *apart]
    return Comparison(
        kind, split, groups, missing, [text for text in common if text != board.first.record.preset]
    )  # the caption has it


def _settings(row: Row, rows: Sequence[Row]) -> list[str]:
    """What tells a row from others: preset, changed settings and, where another row has all these too, the hash."""

    def texts(one: Row) -> tuple[str, ...]:
        record = one.runs[0].record
        return (one.name, record.preset, *changed(record))

    twins = sum(texts(other) == texts(row) for other in rows)
    return [*texts(row)[1:], *([f"hash {row.runs[0].record.hash[:8]}"] if twins > 1 else [])]


def _either(values: Iterable[object]) -> str:
    """The different values, in order: `600` or `600, 1200`."""
    return ", ".join(dict.fromkeys(map(str, values)))


def plain(text: str) -> str:
    """A name as one line of printable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
