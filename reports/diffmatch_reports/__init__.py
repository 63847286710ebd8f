"""Run records into tables and one self-contained page. Reads `diffmatch.runs` folders only: no torch, no plugin, no model."""

from diffmatch_reports.page import write_report
from diffmatch_reports.tables import leaderboard, run_table

__all__ = ["leaderboard", "run_table", "write_report"]
