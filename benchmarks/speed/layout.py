"""A training step with the convolutions' weights channels-first and channels-last, in turns.

    python benchmarks/speed/layout.py TABLE... [--blocks 10] [--out benchmarks/speed/results/layout.md]

TABLE is a YAML file under benchmarks/tables or of one's own: each method of it is timed once, with the settings of its
last row there. Processor seconds of one thread; a block is three steps of one layout, the ratio the median over pairs
of neighbouring blocks, so that other work disturbs both alike.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from pathlib import Path

import torch

from diffmatch import plugins
from diffmatch.data.loading import Draws, Stream, collate
from diffmatch.learning.batch import Progress
from diffmatch.records import tables
from diffmatch.running import grid
from diffmatch.running.plan import Job, plan

STEPS = 3
LAYOUTS = {"first": torch.contiguous_format, "last": torch.channels_last}


def measure(job: Job, blocks: int) -> tuple[str, ...]:
    """One row: dataset, encoder, method, milliseconds per step of both layouts, their ratio."""
    planned = plan(job)
    method, settings = planned.build().train(), planned.settings
    draws = Draws(
        planned.domain,
        Stream(planned.split.labelled, 0, 0),
        Stream(planned.split.unlabelled, 0, 1),
        settings.data,
        method.views,
    )
    b = settings.train.batch
    batches = [collate([draws[k * b + i] for i in range(b)]) for k in range(STEPS)]
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 1e-4, 0.9)

    def block() -> None:
        for i, batch in enumerate(batches):
            method.losses(batch, Progress(i, STEPS)).total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            method.after_step(Progress(i, STEPS))

    seconds: dict[str, list[float]] = {name: [] for name in LAYOUTS}
    for _ in range(blocks):
        for name, layout in LAYOUTS.items():
            method.to(memory_format=layout)
            began = time.process_time()
            block()
            seconds[name].append((time.process_time() - began) / STEPS)
    for times in seconds.values():
        del times[0]  # the library's kernels are chosen in it
    ratio = statistics.median(last / first for first, last in zip(seconds["first"], seconds["last"], strict=True))
    return (
        job.dataset,
        settings.network.encoder,
        job.method,
        *(f"{1000 * statistics.median(seconds[name]):.0f}" for name in LAYOUTS),
        f"{ratio:.2f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", metavar="TABLE")
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    installed = plugins.names(plugins.METHODS)
    rows = []
    for name in asked.tables:
        cells = grid.cells(
            tables.load(name), installed, preset="quick", seeds=1, data=None, out=Path("runs"), overrides={}, invented=0
        )
        jobs = {cell.row.method: cell.jobs[0] for cell in cells}
        rows += [measure(job, asked.blocks) for job in jobs.values()]
    head = ("dataset", "encoder", "method", "first ms", "last ms", "ratio")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows)]
    text = (
        f"One thread, {platform.machine()} CPU, torch {torch.__version__}, processor time of a training step.\n\n"
        + "\n".join(lines)
    )
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
