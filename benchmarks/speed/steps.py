"""Where the time of a training step and of a prediction goes, per method, beside this machine's FLOP floor.

    python benchmarks/speed/steps.py acdc --out benchmarks/speed/results      # the quick recipe on fabricated data
    python benchmarks/speed/steps.py --classes 21 --device cuda               # Table 5's setting: ResNet-50, 513 x 513
        (random pixels)

Shares are of the step's wall time: `load` is reading (decoded cache warm), `views` the augmentation, `extractor` and
`denoiser` forward and backward with hooks around the modules (pseudo-labels included), `update` the optimiser and what
follows it, `rest` everything else: losses, upsampling, noise, bookkeeping. The floor is the step's multiply-accumulates
over the rate that a large matrix product reaches here. Timings are medians over steps; the machine should be otherwise
idle.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from diffmatch import plugins
from diffmatch.data.loading import Draws, Stream, collate, tensor
from diffmatch.learning import registry
from diffmatch.learning.batch import Batch, Labelled, Pool, Progress
from diffmatch.learning.labelling import in_mode
from diffmatch.learning.method import Method, Statistics
from diffmatch.networks.denoiser import Denoiser
from diffmatch.networks.extractor import Extractor
from diffmatch.networks.transformer import TransformerNetwork
from diffmatch.running.cost import plain_card
from diffmatch.running.plan import Job, plan
from diffmatch.settings import Section, resolve


def synchronised(device: torch.device) -> float:
    """The time, once the device has nothing left to do."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Clock:
    """Seconds inside some modules, forward and backward, teachers and second networks included."""

    def __init__(self, modules: list[nn.Module], device: torch.device) -> None:
        self.seconds, self.began, self.device = 0.0, 0.0, device
        for module in modules:
            module.register_forward_pre_hook(self.start)
            module.register_forward_hook(self.stop)
            module.register_full_backward_pre_hook(self.start)
            module.register_full_backward_hook(self.stop)

    def start(self, *_: Any) -> None:
        self.began = synchronised(self.device)

    def stop(self, *_: Any) -> None:
        self.seconds += synchronised(self.device) - self.began


def differentiable(batch: Batch) -> Batch:
    """With gradients to the images too: without them a module's backward hook cannot tell when its backward ends."""
    return batch.map(lambda tensor: tensor.requires_grad_() if tensor.is_floating_point() else tensor)


def peak_rate(device: torch.device) -> float:
    """Multiply-accumulates per second of a large float32 matrix product."""
    n = 8192 if device.type == "cuda" else 2048
    a = torch.randn(n, n, device=device)
    times = []
    for _ in range(5):
        began = synchronised(device)
        a @ a
        times.append(synchronised(device) - began)
    return n**3 / min(times)


def profile(
    method: Method[Section], batches: list[Batch], device: torch.device, precision: torch.dtype | None
) -> dict[str, float]:
    """Median seconds of the parts of a step, the step's GMAC and its peak memory in GiB (CUDA)."""
    method.to(device).train()
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 1e-4, 0.9)
    clocks = {
        "extractor": Clock([m for m in method.modules() if isinstance(m, Extractor | TransformerNetwork)], device),
        "denoiser": Clock([m for m in method.modules() if isinstance(m, Denoiser)], device),
    }
    parts: dict[str, list[float]] = defaultdict(list)

    def step(i: int, batch: Batch) -> None:
        for clock in clocks.values():
            clock.seconds = 0.0
        began = synchronised(device)
        with torch.autocast(device.type, precision or torch.float32, enabled=precision is not None):
            losses = method.losses(batch, Progress(i, len(batches)))
        losses.total.backward()  # type: ignore[no-untyped-call]
        middle = synchronised(device)
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(Progress(i, len(batches)))
        end = synchronised(device)
        inside = {name: clock.seconds for name, clock in clocks.items()}
        for name, seconds in inside.items():
            parts[name].append(seconds)
        parts["update"].append(end - middle)
        parts["rest"].append(middle - began - sum(inside.values()))
        parts["step"].append(end - began)

    on_device = [differentiable(batch.to(device)) for batch in batches]
    step(0, on_device[0])
    parts.clear()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for i, batch in enumerate(on_device[1:], 1):
        step(i, batch)
    result = {name: statistics.median(times) for name, times in parts.items()}
    if device.type == "cuda":
        result["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    with FlopCounterMode(display=False) as counter:
        method.losses(on_device[0], Progress(0, 1)).total.backward()  # type: ignore[no-untyped-call]
    result["gmac"] = counter.get_total_flops() / 2e9
    return result


def predictions(build: Callable[[int], Method[Section]], steps: list[int], images: torch.Tensor) -> dict[int, float]:
    """Images per second of whole-image prediction, one at a time, by sampler steps."""
    rates = {}
    for count in steps:
        method = build(count).to(images.device)
        with in_mode(method, "eval"), torch.no_grad():
            times = []
            for i in range(6):
                began = synchronised(images.device)
                method.probabilities(images, [str(i)])
                times.append(synchronised(images.device) - began)
        rates[count] = 1 / statistics.median(times[1:])
    return rates


def loading_seconds(draws: Draws, batch: int) -> tuple[float, float]:
    """Seconds per step of reading and of making the views, both single-threaded in this process."""
    domain, items = draws.domain, [(draws.labelled.item(n), draws.pool.item(n)) for n in range(batch)]
    used = [pair if draws.views.unlabelled else pair[:1] for pair in items]
    for pair in used:
        for item in pair:
            domain.read(item, mask=item is pair[0])
    began = time.perf_counter()
    for pair in used:
        for item in pair:
            tensor(domain.read(item, mask=item is pair[0]).image)
    reading = time.perf_counter() - began
    began = time.perf_counter()
    for n in range(batch):
        draws[n]
    return reading, max(time.perf_counter() - began - reading, 0.0)


def measure(arguments: argparse.Namespace, name: str, device: torch.device) -> dict[str, Any]:
    kind = registry.method(name)
    precision = {"32": None, "16": torch.float16, "bf16": torch.bfloat16}[arguments.precision]
    if arguments.classes:
        card, settings = plain_card(arguments.classes), resolve(kind.Options, {"train.batch": arguments.batch})
        statistics_ = Statistics((1,) * arguments.classes, 1, 1)

        def build(steps: int) -> Method[Section]:
            changed = settings.model_copy(update={"diffusion": settings.diffusion.model_copy(update={"steps": steps})})
            return kind.build(card, changed, statistics_)

        side, b = settings.data.crop, settings.train.batch
        images = torch.randn(b, 1, 3, side, side)
        flags = torch.ones(b, side, side, dtype=torch.bool)
        masks = torch.randint(0, arguments.classes, (b, side, side), dtype=torch.uint8)
        keys = [str(i) for i in range(b)]
        pool = Pool(images, (images,) * kind.views.strong, flags, ~flags, keys)
        one = Batch(Labelled(images, masks, keys), pool)
        batches, load, views = [one] * (arguments.steps + 1), 0.0, 0.0
    else:
        planned = plan(Job(arguments.dataset, name, arguments.labels, data=arguments.data))
        settings = planned.settings
        draws = Draws(
            planned.domain,
            Stream(planned.split.labelled, 0, 0),
            Stream(planned.split.unlabelled, 0, 1),
            settings.data,
            kind.views,
        )
        b, side = settings.train.batch, settings.data.crop
        batches = [collate([draws[k * b + i] for i in range(b)]) for k in range(arguments.steps + 1)]
        load, views = loading_seconds(draws, b)

        def build(steps: int) -> Method[Section]:
            return planned.build(
                settings.model_copy(update={"diffusion": settings.diffusion.model_copy(update={"steps": steps})})
            )

    found = profile(build(settings.diffusion.steps), batches, device, precision)
    whole = found["step"] + load + views
    image = batches[0].labelled.images[:1].to(device)
    return {
        "method": name,
        "step_ms": whole * 1e3,
        "images_per_second": b / whole,
        "shares": {
            part: value / whole
            for part, value in {
                "load": load,
                "views": views,
                **{k: found.get(k, 0.0) for k in ("extractor", "denoiser", "rest", "update")},
            }.items()
        },
        "gmac_per_step": found["gmac"],
        "floor_ms": found["gmac"] * 1e9 / arguments.rate * 1e3,
        "peak_gib": found.get("peak_gib"),
        "predictions_per_second": predictions(build, [1, 2, 3, 4, 5] if kind.sampled else [1], image),
        "batch": b,
        "crop": side,
    }


def table(rows: list[dict[str, Any]], head: str) -> str:
    parts = list(rows[0]["shares"])
    lines = [
        head,
        "",
        "| method | step ms | floor ms | img/s | of supervised | "
        + " | ".join(f"{p} %" for p in parts)
        + " | peak GiB | predictions/s |",
    ]
    lines.append("|" + "---|" * (len(parts) + 7))
    base = next((row["images_per_second"] for row in rows if row["method"] == "supervised"), None)
    for row in rows:
        shares = " | ".join(f"{row['shares'][p] * 100:.0f}" for p in parts)
        rates = ", ".join(f"{k}: {v:.1f}" for k, v in row["predictions_per_second"].items())
        memory = "" if row["peak_gib"] is None else f"{row['peak_gib']:.2f}"
        relative = f"{row['images_per_second'] / base:.2f}" if base else ""
        times = f"{row['step_ms']:.1f} | {row['floor_ms']:.1f} | {row['images_per_second']:.1f}"
        first = f"| {row['method']} | {times} | {relative} "
        lines.append(f"{first}| {shares} | {memory} | {rates} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", default="acdc")
    parser.add_argument(
        "--classes", type=int, help="random pixels on DeepLabv3+, ResNet-50, 513 x 513 instead of a dataset"
    )
    parser.add_argument("--labels", default="3")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--methods", nargs="+", default=plugins.names(plugins.METHODS))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=8, help="with --classes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["32", "16", "bf16"], default="32")
    parser.add_argument("--out", type=Path, help="folder for <what>-<device>.json and .md")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    arguments.rate = peak_rate(device)
    rows = [measure(arguments, name, device) for name in arguments.methods]
    what = f"{arguments.classes}-classes" if arguments.classes else arguments.dataset
    place = (
        torch.cuda.get_device_name()
        if device.type == "cuda"
        else f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    )
    head = (
        f"{what}, batch {rows[0]['batch']}, crop {rows[0]['crop']}, precision {arguments.precision}, on {place}, "
        f"torch {torch.__version__}, "
        f"matrix product {arguments.rate / 1e9:.0f} GMAC/s"
    )
    text = table(rows, head)
    print(text)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        stem = f"{what}-{device.type}-{arguments.precision}"
        (arguments.out / f"{stem}.json").write_text(json.dumps({"head": head, "rows": rows}, indent=1) + "\n")
        (arguments.out / f"{stem}.md").write_text(text)


if __name__ == "__main__":
    main()
