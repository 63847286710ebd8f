"""The entry point. Commands import engine and reports late: `diffmatch --help` loads no torch."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import traceback
from typing import Any

from diffmatch.card import ExpectedError
from diffmatch.cli import runs  # isort: split

from diffmatch.cli import models  # isort: split

from diffmatch.cli import tables  # isort: split

from diffmatch.cli import installed  # isort: split

from diffmatch.cli import describe  # isort: split

from diffmatch.cli import plugins  # isort: split

from diffmatch.cli import data
from diffmatch.cli.options import app
from diffmatch.shared.failures import refused

__all__ = ["app", "data", "describe", "installed", "invoke", "main", "models", "plugins", "runs", "tables"]


def main() -> None:
    """Entry point. 0 done, 1 a failure of ours, 2 what was asked for cannot be done (one line, no traceback).

    A terminal that lacks a character shows another one in its place. SIGTERM ends a command as Ctrl-C does.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(invoke(sys.argv[1:]))


def _interrupt(*_: Any) -> None:
    for child in multiprocessing.active_children():  # spawned for one run; a terminal's Ctrl-C reaches them itself
        child.terminate()
    raise KeyboardInterrupt


def invoke(arguments: list[str]) -> int:
    """Run the command line in this process and return the exit code."""
    try:
        result = app(arguments, standalone_mode=False)
        return int(result) if isinstance(result, int) else 0
    except ExpectedError as error:
        return _tell(str(error) + error.advice, error.exit_code)
    except KeyboardInterrupt:
        return _tell("interrupted", 130)
    except Exception as error:
        if words := refused(error):
            return _tell(words)
        if hasattr(error, "format_message"):  # a usage error of click, whose class typer does not name
            return _tell(error.format_message() or "name a command")
        traceback.print_exc()
        return 1


def _tell(message: str, code: int = 2) -> int:
    print(" ".join(f"diffmatch: {message}".split()), file=sys.stderr)
    return code
