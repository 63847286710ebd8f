"""What the site's first page says of many runs: a line per dataset, and where each of its boards stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from diffmatch_reports.board import Board
from diffmatch_reports.load import RunView


@dataclass(frozen=True)
class Dataset:
    """One dataset's runs and boards.

    Attributes:
        status: status -> number of runs.
        when: first and last day of its runs, "" where no record tells.
    """

    name: str
    title: str
    runs: list[RunView]
    boards: list[Board]
    status: dict[str, int]
    when: str

    @property
    def methods(self) -> list[str]:
        return sorted({run.record.method for run in self.runs})

    @property
    def budgets(self) -> list[str]:
        """Label budgets in the card's order, others after them."""
        known = list(self.runs[0].card.budgets)
        return sorted(
            {run.record.labels.budget for run in self.runs},
            key=lambda b: (known.index(b) if b in known else len(known), b),
        )

    @property
    def data(self) -> str:
        kinds = Counter("invented" if run.record.data.fabricated else "real" for run in self.runs)
        return ", ".join(f"{kind} ({n})" if len(kinds) > 1 else kind for kind, n in sorted(kinds.items()))


def datasets(runs: Sequence[RunView], boards: Sequence[Board]) -> list[Dataset]:
    """Runs and boards by dataset, in the order in which they come."""
    groups = []
    for name in dict.fromkeys(run.record.dataset for run in runs):
        own = [run for run in runs if run.record.dataset == name]
        status: dict[str, int] = dict(Counter(str(run.record.status) for run in own).most_common())
        groups.append(
            Dataset(
                name, own[0].card.title, own, [b for b in boards if b.first.record.dataset == name], status, period(own)
            )
        )
    return groups


def period(runs: Sequence[RunView]) -> str:
    """`2026-11-22` or `2026-11-20 to 2026-11-22`, as the records tell."""
    days = sorted({str(time)[:10] for run in runs if (time := run.record.environment.get("time"))})
    return "" if not days else days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
