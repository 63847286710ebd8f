"""How long `diffmatch report` takes over a folder of many runs, and how much memory.

    python benchmarks/speed/report.py [--runs 2000] [--records benchmarks/results] [--out benchmarks/speed/results/report.md]

The folder is invented from real records: each is copied in turn under other methods, seeds and hashes, every
fiftieth as a failed run and every hundredth cut in half. The report is written by a process of its own, on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from diffmatch.runs import find_runs

METHODS = ("supervised", "mean_teacher", "cps", "fixmatch", "unimatch", "u2pl", "discriminative", "diffmatch")
SEEDS = 5
FAILED, BROKEN = 50, 100


def fabricate(records: Path, runs: int, root: Path) -> None:
    """`runs` run folders under `root`, varied copies of those under `records`."""
    originals = find_runs(records)
    for n, folder in enumerate(islice(cycle(originals), runs)):
        turn, seed = divmod(n // len(originals), SEEDS)
        target = root / str(n)
        for path in folder.path.rglob("*"):
            if path.is_file() and path.suffix in (".json", ".npz", ".csv") and path != folder.record_path:
                copy = target / path.relative_to(folder.path)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
        record = json.loads(folder.record_path.read_text())
        record |= {"method": METHODS[turn % len(METHODS)], "seed": seed, "hash": f"{turn:08x}"}
        if n % FAILED == FAILED - 1:
            record |= {"status": "failed", "reason": "loss is not finite at step 17", "metrics": {}}
        text = json.dumps(record)
        target.mkdir(parents=True, exist_ok=True)
        (target / "run.json").write_text(text[: len(text) // 2] if n % BROKEN == BROKEN // 2 else text)


def measure(root: Path, out: Path) -> tuple[float, float, float]:
    """Seconds, those of the core, and peak MiB of `diffmatch report root --out out` in a process that is kept on one core."""
    command = [str(Path(sys.executable).with_name("diffmatch")), "report", str(root), "--out", str(out)]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, spent.ru_utime + spent.ru_stime, spent.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--records", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        root, site = Path(made) / "runs", Path(made) / "site"
        fabricate(asked.records, asked.runs, root)
        seconds, busy, peak = measure(root, site)
        written = [path for path in site.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in written) / 2**20
    text = (
        f"{asked.runs} run records of {asked.records}, one core: `diffmatch report` takes {seconds:.0f} s "
        f"({busy:.0f} s of the core's time), peak memory {peak:.0f} MiB, and writes {len(written)} files, {size:.0f} MiB."
    )
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
