"""File names of the site's pages: what a record calls itself is text, never a path."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from diffmatch.records.schema import RunRecord
from diffmatch_reports.load import RunView

LONGEST = 60


def slug(text: str) -> str:
    """Lower-case letters, digits and hyphens; `x` where nothing is left."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:LONGEST].strip("-") or "x"


def safe(text: str) -> str:
    """A file name for a text: the text if it is one already, else a slug and a hash that keeps texts apart."""
    return text if re.fullmatch(rf"[a-z0-9_-]{{1,{LONGEST}}}", text) else f"{slug(text)}-{_short(text)}"


def run_name(folder: Path, record: RunRecord) -> str:
    """Stem of a run's page and data file: the same folder gives the same name."""
    return f"{slug(f'{record.dataset} {record.method} {record.labels.budget} {record.seed}')}-{_short(str(folder))}"


def board_name(first: RunView) -> str:
    """Stem of what belongs to a board, by any of its runs."""
    record = first.record
    return f"{slug(f'{record.dataset} {record.labels.budget}')}-{_short(str(first.conditions))}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]
