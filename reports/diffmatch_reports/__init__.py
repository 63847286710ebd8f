"""Run records into tables and pages. Reads run folders only: no torch, no plugin, no model."""

from diffmatch_reports.folds import folds_table
from diffmatch_reports.site import write_report
from diffmatch_reports.terminal import leaderboard, run_table

__all__ = ["folds_table", "leaderboard", "run_table", "write_report"]
