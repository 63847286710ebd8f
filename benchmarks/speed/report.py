"""How long `diffmatch report` takes over a folder of many runs, and how much memory.

    python benchmarks/speed/report.py [--runs 2000] [--records benchmarks/results] [--out FILE.md]

The folder is made from real records: each is copied in turn under other methods, seeds and hashes. Every fiftieth is a
failed run and every hundredth a truncated record. The report's processes use all cores. The memory is that of all
processes (Linux: proportional set size, read every fifth of a second).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from diffmatch.records import packed
from diffmatch.records.folder import find_runs
from diffmatch.shared.machine import usable_cores

METHODS = ("supervised", "mean_teacher", "cps", "fixmatch", "unimatch", "u2pl", "discriminative", "diffmatch")
SEEDS = 5
FAILED, BROKEN = 50, 100


def fabricate(records: Path, runs: int, root: Path) -> None:
    """`runs` run folders under `root`, varied copies of those under `records`."""
    originals = find_runs(records)
    for n, folder in enumerate(islice(cycle(originals), runs)):
        turn, seed = divmod(n // len(originals), SEEDS)
        target = root / str(n)
        for path in packed.files(folder.path):
            if path.suffix in (".json", ".npz", ".csv") and path != folder.record_path:
                copy = target / path.relative_to(folder.path)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(packed.read_bytes(path))
        record = json.loads(packed.read_bytes(folder.record_path))
        record |= {"method": METHODS[turn % len(METHODS)], "seed": seed, "hash": f"{turn:08x}"}
        if n % FAILED == FAILED - 1:
            record |= {"status": "failed", "reason": "loss is not finite at step 17", "metrics": {}}
        text = json.dumps(record)
        target.mkdir(parents=True, exist_ok=True)
        (target / "run.json").write_text(text[: len(text) // 2] if n % BROKEN == BROKEN // 2 else text)


def memory(process: int) -> int:
    """KiB of a process and its children, shared pages counted once; 0 when they are gone."""
    total, waiting = 0, [process]
    while waiting:
        one = Path(f"/proc/{waiting.pop()}")
        try:
            found = re.search(r"^Pss: +(\d+)", (one / "smaps_rollup").read_text(), re.MULTILINE)
            waiting += map(int, (one / "task" / one.name / "children").read_text().split())
        except (OSError, ValueError):
            continue
        total += int(found[1]) if found else 0
    return total


def measure(root: Path, out: Path) -> tuple[float, float, float]:
    """Seconds, those of all cores, and peak MiB of `diffmatch report root --out out`."""
    command = [str(Path(sys.executable).with_name("diffmatch")), "report", str(root), "--out", str(out)]
    began, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}) as running:
        while running.poll() is None:
            peak = max(peak, memory(running.pid))
            time.sleep(0.2)
    seconds = time.perf_counter() - began
    if running.returncode:
        raise SystemExit(running.returncode)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, spent.ru_utime + spent.ru_stime, peak / 1024


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
        pictures = sum(1 for _ in root.rglob("samples/*.npz"))
        written = [path for path in site.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in written) / 2**20
    text = (
        f"{asked.runs} run records with {pictures} samples to show, {usable_cores()} cores: `diffmatch report` takes "
        f"{seconds:.0f} s ({busy:.0f} s of the cores' time), peak memory {peak:.0f} MiB, "
        f"and writes {len(written)} files, {size:.0f} MiB."
    )
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
