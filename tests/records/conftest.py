"""The reports' simulated run folders, here too."""

from __future__ import annotations

import runpy
from pathlib import Path

make_run = runpy.run_path(str(Path(__file__).parents[1] / "reports" / "conftest.py"))["make_run"]
