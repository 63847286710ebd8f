"""What a run leaves beside its numbers: pictures, a log, TensorBoard events."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffmatch.domain import InputError
from diffmatch.learning.labelling import in_mode
from diffmatch.learning.method import Method
from diffmatch.running.plan import Plan
from diffmatch.scoring.evaluation import members
from diffmatch.scoring.inference import framed
from diffmatch.settings import Section
from diffmatch.shared.files import write_atomically


def draw_samples(planned: Plan, method: Method[Section], device: torch.device) -> None:
    """Write a few test items with the label map after every sampling step, for the report.

    Of a volume its fullest slice is taken.
    """
    items = members(planned.split, "test", planned.card.protocol())
    wanted = min(planned.settings.eval.samples, len(items))
    for i, item in enumerate(items[n * len(items) // wanted] for n in range(wanted)):
        sample = planned.domain.read(item)
        assert sample.mask is not None
        image, truth, title, z = torch.from_numpy(np.array(sample.image)), np.asarray(sample.mask), item.id, 0
        if truth.ndim == 3:
            z = int(max(range(len(truth)), key=lambda k: (len(np.unique(truth[k])), int((truth[k] > 0).sum()))))
            image, truth, title = image[:, :, z], truth[z], f"{item.id}, slice {z}"
        ready, back = framed(image[None].to(device), planned.settings.data)
        with in_mode(method, "eval"), torch.no_grad():
            maps = method.trajectory(ready, [f"{item.id}/{z}"])
        steps = back(maps.movedim(0, 1).float(), "nearest")[0].to(torch.uint8).cpu().numpy()
        pixels = (image.clamp(0, 1) * 255).to(torch.uint8).movedim(1, -1).numpy()
        picture = (
            {1: pixels[0, ..., 0], 3: pixels[0, ..., :3]}.get(pixels.shape[-1], pixels[0, ..., 0])
            if len(pixels) == 1
            else pixels[..., :3]
        )
        content: dict[str, Any] = {"image": picture, "truth": truth, "steps": steps, "title": np.array(title)}
        write_atomically(planned.folder.path / "samples" / f"{i:02d}.npz", partial(np.savez_compressed, **content))


def logger(folder: Path) -> logging.Logger:
    log = logging.getLogger(f"diffmatch.run.{folder}")
    log.setLevel(logging.INFO)
    log.propagate = False
    if not log.handlers:
        handler = logging.FileHandler(folder / "log.txt", encoding="utf-8")
        handler.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk ends no run here
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(handler)
    return log


def tensorboard_writer(folder: Path) -> Any:
    """TensorBoard's writer on the run folder.

    Raises:
        InputError: the extra is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "--tensorboard needs the package tensorboard: pip install 'diffmatch-bench[tensorboard]'"
        ) from error
    return SummaryWriter(str(folder))
