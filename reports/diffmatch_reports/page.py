"""Templates into pages: every name from a record is escaped, every page holds its own style and script."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from diffmatch.shared.files import write_text
from diffmatch.shared.machine import installed
from diffmatch_reports import compare, names, paper_cells, paper_text, pictures, sections, wording
from diffmatch_reports.plots import run_page, svg

MAX_SAMPLES = 6


def write_page(path: Path, template: str, **values: Any) -> None:
    """Render one of the templates into a file.

    Args:
        path: of the page; its folder is created if absent.
        values: what the template names. `root` is the way to the site's first page ("", "../"), None for a page alone.
    """
    html = _templates().get_template(f"{template}.html.j2").render(version=installed("diffmatch-bench") or "", **values)
    write_text(path, html)


@lru_cache(maxsize=1)
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
        "charts": run_page,
        "hatch": svg.HATCH,
        "run_name": names.run_name,
        "by_case": compare.by_case,
        "safe": names.safe,
        "paper_text": paper_text,
        "column_key": paper_cells.key,
        "max_samples": MAX_SAMPLES,
    }
    templates.filters |= {"shown": wording.shown, "strip": pictures.strip}
    return templates
