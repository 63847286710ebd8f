"""Many files predicted into one folder; a second call goes on where the first one stopped."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffmatch.domain import InputError
from diffmatch.model.files import Saved, outputs, write
from diffmatch.model.look import Look
from diffmatch.model.model import Model
from diffmatch.model.paths import Source
from diffmatch.progress import Bar
from diffmatch.shared.files import write_json

NEEDED: Mapping[Saved, tuple[str, ...]] = {
    "labels": (),
    "overlay": (),
    "probabilities": ("probabilities",),
    "uncertainty": ("entropy", "disagreement"),
}
"""The fields of a prediction, besides its labels, that a file is made of."""
KINDS: tuple[Saved, ...] = tuple(NEEDED)
MARK = ".diffmatch.json"
"""Says which model filled a folder, so that another one never mixes its masks in."""


@dataclass
class Predicted:
    """What came of a call.

    Attributes:
        pixels: of each class in each input that was predicted now, (inputs, C).
        files: what was written, by the names of these inputs.
        before: inputs whose files an earlier call had written.
        problems: what is wrong with the inputs that were left out.
    """

    pixels: NDArray[np.int64]
    files: dict[str, dict[Saved, Path]] = field(default_factory=dict)
    before: int = 0
    problems: list[str] = field(default_factory=list)


def saved(text: str) -> tuple[Saved, ...]:
    """`labels,overlay` as typed -> the kinds of files to write.

    Raises:
        InputError: another word.
    """
    words = [word.strip() for word in text.split(",")]
    if unknown := [word for word in words if word not in KINDS]:
        raise InputError(f"--save {unknown[0]}: choose from {', '.join(KINDS)}, with commas between them")
    return tuple(kind for kind in KINDS if kind in words)


def predict_files(model: Model, sources: Mapping[str, Source], out: Path, save: Collection[Saved]) -> Predicted:
    """Write what is asked for of each input, with the data set's own class numbers and on the input's own grid.

    An input that cannot be read is left out and named. Files that are newer than their input are kept.

    Args:
        sources: by the name of the files below `out`.
        out: a folder that does not exist, is empty, or was filled by the same model.

    Raises:
        InputError: the folder holds something else, or no input can be read.
    """
    _claim(out, model)
    done, look = Predicted(np.zeros((0, len(model.classes)), np.int64)), Look.of(model.card, model.reading.values)
    keep = {name for kind in save for name in NEEDED[kind]}
    with Bar("predict", len(sources)) as bar:
        for name, paths in bar.track(sources.items()):
            both = paths if isinstance(paths, tuple) else (paths,)
            if _is_written(outputs(both[0], out / name, save, model.reading.kind == "volume").values(), both):
                done.before += 1
                continue
            try:
                opened = model.open(paths)
                found = model.predict_opened(opened, keep, out)
            except InputError as error:
                done.problems.append(str(error))
                continue
            own = found.moved(opened.own)
            done.files[name] = write(own, opened.image, both[0], out / name, look, save, found.labels)
            done.pixels = np.vstack([done.pixels, _histogram(found.labels, len(model.classes))])
    if done.problems and not done.files and not done.before:
        if not any(path.name != MARK for path in out.iterdir()):
            (out / MARK).unlink()
            out.rmdir()
        more = f" (and {len(done.problems) - 1} more)" if len(done.problems) > 1 else ""
        raise InputError(done.problems[0] + more)
    return done


def _claim(out: Path, model: Model) -> None:
    settings = model.settings
    own = {
        "dataset": model.manifest.dataset,
        "method": model.manifest.method,
        "run": model.manifest.run,
        "checkpoint": model.manifest.checkpoint,
        "steps": settings.diffusion.steps if model.method.sampled else 1,
        "draws": settings.eval.draws if model.method.sampled else 1,
    }
    mark = out / MARK
    if mark.is_file():
        try:
            theirs = json.loads(mark.read_bytes())
        except ValueError:
            theirs = None
        if theirs != own:
            raise InputError(
                f"{out}: holds the predictions of another model or sampler; name another folder with --out"
            )
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is not an empty folder; name another one with --out, so that nothing is overwritten")
    write_json(mark, own)


def _is_written(files: Collection[Path], sources: Collection[Path]) -> bool:
    """Whether all files are there and newer than what they are made of."""
    try:
        newest = max(path.stat().st_mtime_ns for path in sources)
        return all(path.stat().st_mtime_ns >= newest for path in files)
    except OSError:
        return False


def _histogram(labels: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Pixels per class, row by row: the array may be larger than memory."""
    counts = np.zeros(classes, np.int64)
    for row in labels:
        counts += np.bincount(np.ravel(row), minlength=classes)
    return counts
