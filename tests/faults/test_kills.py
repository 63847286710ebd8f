"""A small share of the kill programme: every command with every fault once, and several processes at once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PROGRAMME = Path(__file__).with_name("kills.py")


def test_every_command_survives_every_fault():
    asked = [sys.executable, str(PROGRAMME), "--kills", "36", "--seed", "1"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=280)
    last = done.stdout.splitlines()[-1]
    survived, tried = map(int, re.fullmatch(r"survived (\d+) of (\d+)", last).groups())
    assert done.returncode == 0 and survived == tried == 40, done.stdout + done.stderr
