"""How many training draws a core loads per second, plugin by plugin: reading, both streams, all views of diffmatch.

    python benchmarks/speed/loading.py [--seconds 5] [--data camvid=DIR msd=DIR] [--out
    benchmarks/speed/results/loading.md]

A draw is one labelled and one unlabelled item with its weak and strong view. `read` is the plugin's share (both items,
one mask). The first pass fills the cache of decoded arrays and is not timed. Fabricated pictures are smaller than real
ones: the last column tells.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch

from diffmatch import plugins
from diffmatch.conformance.tiny import smallest
from diffmatch.data.loading import Draws, Stream
from diffmatch.data.opening import find_data, open_domain
from diffmatch.learning import registry
from diffmatch.learning.method import Statistics
from diffmatch.running.plan import settings_of


def measure(name: str, data: Path | None, seconds: float) -> tuple[str, ...]:
    """One row: plugin, data, draws/s, read milliseconds, view milliseconds, size of the first item."""
    kind, method = plugins.domain(name), registry.method("diffmatch")
    root, fabricated = find_data(kind, data)
    domain, _ = open_domain(kind, root)
    split = smallest(domain)
    settings = settings_of(domain, method, "quick", {})
    labelled, pool = Stream(split.labelled, 0, 0), Stream(split.unlabelled, 0, 1)
    views = method.build(domain.card, settings, Statistics((1,) * len(domain.card.classes), 1, 1)).views
    draws = Draws(domain, labelled, pool, settings.data, views)
    count = min(200, max(len(split.labelled), len(split.unlabelled)))
    for n in range(count):
        draws[n]
    reading, n, began = 0.0, 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        draws[n % count]
        at = time.perf_counter()
        domain.read(labelled.item(n % count), True)
        domain.read(pool.item(n % count), False)
        reading += time.perf_counter() - at
        n += 1
    whole = (spent - reading) / n
    size = "x".join(map(str, domain.read(split.labelled[0]).image.shape))
    return (
        name,
        "invented" if fabricated else "real",
        f"{1 / whole:.0f}",
        f"{1000 * reading / n:.2f}",
        f"{1000 * (whole - reading / n):.2f}",
        f"{settings.data.crop}",
        size,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--data", nargs="*", default=[], metavar="NAME=DIR")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    given = dict(pair.split("=", 1) for pair in asked.data)
    inventive = [name for name in plugins.names(plugins.DOMAINS) if plugins.domain(name).can_fabricate()]
    rows = [measure(name, None, asked.seconds) for name in inventive]
    rows += [measure(name, Path(folder), asked.seconds) for name, folder in given.items()]
    head = ("dataset", "data", "draws/s", "read ms", "views ms", "crop", "item (dates x channels x H x W)")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows)]
    text = (
        f"One thread of {os.cpu_count()} cores, torch {torch.__version__}, quick preset, {asked.seconds:g} s each.\n\n"
        + "\n".join(lines)
    )
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
