"""Does f use the mask that it is given? A diagnosis of one finished DiffMatch run.

    python benchmarks/diagnosis.py runs/msd/diffmatch/3/0-xxxxxxxx [--split val|test] [--cases 10]

Prints scores (the card's metric) and writes them as diagnosis.json into the run folder: of the sampler at steps 1 to 5
and draws 1 and 4; of one call of f with y_t made from the truth, by t; and of the same with y_t made from another
image's mask. Where the last two agree, f ignores the mask and is a mere classifier.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffmatch.domain import VOID, InputError, Item, Sample
from diffmatch.learning.labelling import in_mode
from diffmatch.methods.diffmatch import DiffMatch
from diffmatch.records import checkpoint
from diffmatch.records.counts import Counts
from diffmatch.records.folder import RunFolder
from diffmatch.running.again import job_of, planned_again
from diffmatch.running.plan import Plan
from diffmatch.scoring.counting import count
from diffmatch.scoring.evaluation import members
from diffmatch.scoring.inference import framed, predict_images
from diffmatch.scoring.metrics import summary
from diffmatch.shared.files import write_json
from diffmatch.shared.seeds import seed_of

TIMES = (0.05, 0.25, 0.5, 0.75, 0.9, 1.0)

Slices = tuple[Item, Tensor, Tensor]
"""An item, its images (N, dates, channels, H, W) and masks (N, H, W): a volume's slices, or one image."""


def as_slices(item: Item, sample: Sample) -> Slices:
    image, mask = torch.from_numpy(np.array(sample.image)), torch.from_numpy(np.array(sample.mask))
    return (item, image.movedim(2, 0), mask) if image.ndim == 5 else (item, image[None], mask[None])


def scored(planned: Plan, volumes: Sequence[Slices], predict: Callable[[Slices], Tensor]) -> float:
    """The card's metric of `predict`, which returns probabilities (N, C, H, W) of an item's slices."""
    counts = Counts(len(planned.card.classes))
    for volume in volumes:
        count(counts, volume[0].id, predict(volume).movedim(0, 1), volume[2], background=planned.card.background)
    return float(summary(counts, planned.card, planned.statistics.pixels)["primary"].get("value", float("nan")))


def from_truth(method: DiffMatch, volume: Slices, t: float, shuffled: bool) -> Tensor:
    """Probabilities of one call of f with y_t made from the truth, (N, C, H, W).

    Args:
        shuffled: every slice gets the mirrored mask of the slice half a volume away.
    """
    item, images, masks = volume
    ready, back = framed(images, method.settings.data)
    padded = framed_masks(masks, ready.shape[-2:], method.settings.data.resize)
    if shuffled:
        padded = padded.roll(max(1, len(padded) // 2), 0).flip(-1)
    torch.manual_seed(seed_of(item.id, t))
    condition = method.network.condition(ready)
    times = torch.full((len(ready),), t)
    y_t = method.network.noisy(padded, times, condition.shape[-2:])
    return back(method.network.scores(y_t, condition, times, ready.shape[-2:]).softmax(1))


def framed_masks(masks: Tensor, size: Sequence[int], resize: int | None) -> Tensor:
    """Masks as `framed` frames their images, void where it pads."""
    if resize:
        sides = (resize, resize)
        resized = torch.nn.functional.interpolate(masks[:, None].float(), size=sides, mode="nearest-exact")
        masks = resized[:, 0].to(torch.uint8)
    spare = [side - have for side, have in zip(size, masks.shape[1:], strict=True)]
    top, left = spare[0] // 2, spare[1] // 2
    return torch.nn.functional.pad(masks, (left, spare[1] - left, top, spare[0] - top), value=VOID)


def diagnose(folder: RunFolder, split: str, cases: int, data: Path | None) -> dict[str, Any]:
    planned = planned_again(job_of(folder, data))
    protocol = planned.card.protocol()
    items = members(planned.split, "test" if split == "test" else "val", protocol)[:cases]
    if not items:
        raise InputError(f"{folder.path}: nothing in '{split}' to look at; name another --split")
    volumes = [as_slices(item, planned.domain.read(item)) for item in items]
    state = checkpoint.load(folder.path / "last.ckpt", planned.split.sha256, planned.name)

    def method(steps: int, draws: int) -> DiffMatch:
        settings = planned.settings.model_copy(
            update={
                "diffusion": planned.settings.diffusion.model_copy(update={"steps": steps}),
                "eval": planned.settings.eval.model_copy(update={"draws": draws}),
            }
        )
        built = planned.build(settings)
        built.load_state_dict(state["method"])
        assert isinstance(built, DiffMatch), "the diagnosis is of DiffMatch runs"
        return built

    result: dict[str, Any] = {
        "run": folder.path.name,
        "split": split,
        "cases": len(items),
        "metric": planned.card.metric,
    }
    with torch.no_grad():
        for steps, draws in [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (1, 4), (3, 4)]:
            built = method(steps, draws)
            with in_mode(built, "eval"):

                def sampled(volume: Slices, built: DiffMatch = built) -> Tensor:
                    keys = [f"{volume[0].id}/{z}" for z in range(len(volume[1]))]
                    return predict_images(built.probabilities, volume[1], keys, built.settings.data, protocol)

                result[f"steps {steps}, draws {draws}"] = round(scored(planned, volumes, sampled), 4)
        built = method(1, 1)
        with in_mode(built, "eval"):
            for shuffled, name in ((False, "y_t from truth"), (True, "y_t of another image")):
                result[name] = {
                    str(t): round(scored(planned, volumes, lambda v, t=t, s=shuffled: from_truth(built, v, t, s)), 4)  # type: ignore[misc]
                    for t in TIMES
                }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--split", choices=["val", "test"], default="val")
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    try:
        result = diagnose(RunFolder(arguments.run), arguments.split, arguments.cases, arguments.data)
    except InputError as error:
        parser.exit(2, f"error: {error}\n")
    for key, value in result.items():
        print(f"{key}: {value}")
    write_json(arguments.run / "diagnosis.json", result)


if __name__ == "__main__":
    main()
