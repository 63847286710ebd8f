"""One self-contained HTML file from run folders: styles, script, charts and pictures are inside; nothing is fetched from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from diffmatch.domain import InputError, write_atomically
from diffmatch.runs import RunFolder, installed
from diffmatch_reports import pictures, sections, wording
from diffmatch_reports.board import boards
from diffmatch_reports.load import SPLITS, RunView, load_run

MAX_SAMPLES = 6


@dataclass(frozen=True)
class Entry:
    """A run and the anchor that links to it."""

    anchor: str
    run: RunView


def write_report(runs: list[RunFolder], out: Path) -> Path:
    """Write `out`/index.html for one run or many.

    Args:
        runs: in the order in which they appear. One whose run.json cannot be read is named on the page.
        out: folder, created if absent.

    Returns:
        Path of the page.

    Raises:
        InputError: there is no run, or not one that can be read.
    """
    views, unreadable = [], []
    for folder in runs:
        try:
            views.append(load_run(folder))
        except InputError as error:
            unreadable.append(str(error))
    if not views:
        raise InputError(unreadable[0] if unreadable else f"{out}: no run to report; train one with diffmatch bench")
    html = render(views, unreadable)
    page = out / "index.html"
    write_atomically(page, lambda handle: handle.write(html.encode()))
    return page


def render(runs: Sequence[RunView], unreadable: Sequence[str] = ()) -> str:
    """The page's HTML."""
    entries = [Entry(f"run-{number}", run) for number, run in enumerate(runs, 1)]
    page = _templates().get_template("page.html.j2")
    return page.render(
        entries=entries,
        anchors={id(entry.run): entry.anchor for entry in entries},
        boards=boards(runs) if len(runs) > 1 else [],
        caveats=wording.page_caveats([run.record for run in runs]),
        unreadable=unreadable,
        version=installed("diffmatch-bench") or "",
    )


def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("diffmatch_reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals |= {
        "sections": sections,
        "words": wording,
        "strip": pictures.strip,
        "splits": SPLITS,
        "max_samples": MAX_SAMPLES,
        "id": id,
    }
    templates.filters["shown"] = wording.shown
    return templates
