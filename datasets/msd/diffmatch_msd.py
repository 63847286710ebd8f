"""Any task of the Medical Segmentation Decathlon: a folder with dataset.json, imagesTr/ and labelsTr/."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffmatch.domain import (
    VOID,
    ClassInfo,
    Domain,
    InputError,
    Item,
    Mask,
    Percentiles,
    Protocol,
    Reading,
    Sample,
    Scaling,
    SplitName,
    Window,
    distinct_color,
    map_labels,
)
from diffmatch.readers import nifti
from diffmatch.readers.scaling import fitted_window, scaled
from diffmatch.readers.volumes import RECIPE, Source, VolumeCard, sample
from diffmatch_msd_phantom import write_task
from diffmatch_msd_task import check_files, read_task

OWN = Percentiles(low=0.5, high=99.5)
"""What scales a volume without a unit."""
VOXELS = 10_000
"""Voxels of a case that are drawn for the window of CT."""
CASES = 16
"""Cases whose images give the window of CT before any is labelled."""

WHERE = (
    "get a task from http://medicaldecathlon.com, unpack it, and name the folder that holds its dataset.json, "
    "imagesTr/ and labelsTr/"
)


def _color(index: int) -> tuple[int, int, int]:
    """Black for the background, the others distinct."""
    return distinct_color(index - 1) if index else (0, 0, 0)


class MSD(Domain):
    """Any task of the Medical Segmentation Decathlon.

    Dataset features:

    * classes, modalities and the pairs of image and mask come from the task's dataset.json
    * training items are slices, val and test items are volumes; a case is one file of `imagesTr/`
    * train, val and test are 70 / 10 / 20 % of the labelled cases, drawn once from their sorted names, so that
      everybody with the same cases has the same split
    * `imagesTs/` has no public masks and is not read

    Dataset format:

    * `dataset.json`, `imagesTr/NAME.nii.gz`, `labelsTr/NAME.nii.gz`
    * volumes (X, Y, Z), with a fourth axis where there are several modalities
    * files whose axes run otherwise than most of the task's are turned by their affine
    * CT is windowed about the Hounsfield units of the labelled cases' foreground, MRI is scaled by each volume's 0.5
      and 99.5 percentiles

    Dataset classes:

    * those of dataset.json, in the order of their values; 0 is background, and what is called ignore, void or the
      like is void

    If you use this dataset in your research, please cite the following paper:

    * Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13:4128, 2022,
      https://doi.org/10.1038/s41467-022-30695-9

    Dataset licence:

    * CC BY-SA 4.0

    Args:
        root: the task's folder.

    Raises:
        InputError: no usable dataset.json, or it names files that are not there.
    """

    card = VolumeCard(
        version=1,
        name="msd",
        title="Medical Segmentation Decathlon",
        modality="MRI or CT, as the task says",
        classes=(ClassInfo(name="background", color=_color(0)), ClassInfo(name="foreground", color=_color(1))),
        budgets=("1", "3", "7"),
        protocols=(
            Protocol(name="volumes", title="Dice per volume on its own grid, 20 % of the cases", mode="volume"),
        ),
        licence="CC BY-SA 4.0",
        citation="Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13:4128, 2022",
        source=WHERE,
        note="a template: classes, channels and title are those of the task's dataset.json once data are given",
    )
    # UniMatch's ACDC settings on the native grid. A task's crop is the first multiple of 32 that holds its median
    # slice, 256 at most.
    recipe = RECIPE.updated(paper={"data.resize": None, "data.flip": "horizontal"})

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.about = root / "dataset.json"
        if not self.about.is_file():
            tasks = sorted(path.parent.name for path in root.glob("*/dataset.json"))
            raise InputError(f"{root}: no dataset.json; " + (f"name one task: {', '.join(tasks)}" if tasks else WHERE))
        task = read_task(self.about)
        self.modalities, labels = task.modalities, task.labels
        # Archives packed on macOS carry a hidden twin ("._name") of every file.
        self.pairs = {e.case: (e.image, e.mask) for e in task.entries if not e.case.startswith("._")}
        check_files(self.about, self.pairs, Counter(e.case for e in task.entries))
        # Raw values need not be consecutive; classes are.
        self.mapping = {value: c for c, value in enumerate(labels)} | dict.fromkeys(task.void, VOID)
        self.name = str(task.told.get("name", root.name))
        self._ct = ["CT" in modality.upper().replace("-", " ").split() for modality in self.modalities]
        self._labelled: tuple[str, ...] = ()
        self._parts: Mapping[str, SplitName] = {}
        self.card = self.card.model_copy(
            update={
                # Version 1 had CT windows by the task's name, and void as a class. All else is read as it was.
                "version": self.card.version + (any(self._ct) or bool(task.void)),
                "title": f"{self.name} (Medical Segmentation Decathlon)",
                "modality": ", ".join(self.modalities),
                "classes": tuple(ClassInfo(name=name, color=_color(c)) for c, name in enumerate(labels.values())),
                "channels": len(self.modalities),
                "licence": str(task.told.get("licence", self.card.licence)),
                "note": str(task.told.get("description", "")),
            }
        )
        sides = [max(shape[axis] for axis in self._axes[1:]) for shape, _ in self._headers.values()]
        fitted = {
            "data.mean": (0.0,) * len(self.modalities),
            "data.std": (1.0,) * len(self.modalities),
            "data.crop": min(256, 32 * math.ceil(np.median(sides) / 32)),
        }
        self.recipe = self.recipe.updated(fitted)

    def index(self, split: SplitName) -> list[Item]:
        items = []
        for case in sorted(case for case, part in (self._parts or self._drawn()).items() if part == split):
            shape, _ = self._headers[case]
            source = self._source(case)
            if split == "train":
                planes = range(shape[self._axes[0]])
                items += [Item(f"{case}_slice_{k:03d}", case, replace(source, plane=k)) for k in planes]
            else:
                items.append(Item(case, case, source))
        return items

    def divide(self, parts: Mapping[str, SplitName]) -> None:
        self._parts = parts

    def _drawn(self) -> dict[str, SplitName]:
        """The part of each case: 70 / 10 / 20 %."""
        cases = list(self.pairs)
        order = np.random.default_rng(0).permutation(len(cases))
        test, val = max(1, round(0.2 * len(cases))), round(0.1 * len(cases))
        train = len(cases) - val - test
        counts: dict[SplitName, int] = {"train": train, "val": val, "test": test}
        parts = [part for part, count in counts.items() for _ in range(count)]
        return {cases[place]: part for place, part in zip(order, parts, strict=True)}

    def _source(self, case: str) -> Source:
        key = case if self._grids[case].codes == self._codes else f"{case}_{self._codes}"
        _, spacing = self._headers[case]
        return Source(key, *self.pairs[case], tuple(spacing[axis] for axis in self._axes))

    def read(self, item: Item, mask: bool = True) -> Sample:
        source: Source = item.ref
        labels = self._labels(source) if mask else None
        if any(self._ct):
            return sample(source, self._values(source), labels, self._rest)
        pixels = self.cache.array(f"{source.key}_image", lambda: self._image(source.image))
        return sample(source, pixels, labels)

    def fitted(self, labelled: Sequence[Item]) -> MSD:
        """CT is windowed about what the labelled cases' masks mark."""
        if not any(self._ct):
            return self
        domain = copy.copy(self)
        domain._labelled = tuple(sorted({item.case for item in labelled}))
        for known in ("reading", "_windows", "_rest"):
            domain.__dict__.pop(known, None)
        return domain

    @property
    def layout(self) -> str:
        known = f"the masks of {len(self._labelled)} cases" if self._labelled else "images alone"
        windows = [f"CT from {w.low:g} to {w.high:g}, by {known}" for w in self._windows.values()]
        return "; ".join([super().layout, *windows])

    @cached_property
    def reading(self) -> Reading:
        """CT is windowed. MRI has no unit: each volume is scaled by its own percentiles.

        Half precision, since a CT of the decathlon has up to 10^8 voxels.
        """
        values = tuple(value for value, c in self.mapping.items() if c != VOID)
        scaling = tuple(self._windows.get(channel, OWN) for channel in range(len(self.modalities)))
        return Reading(kind="volume", values=values, axes=self._directions, scaling=scaling, half=True)

    @cached_property
    def _rest(self) -> Reading:
        """What is left to scale of `_values`."""
        scaling: list[Scaling] = [self._windows.get(c, Window(low=0, high=1)) for c in range(len(self.modalities))]
        return self.reading.model_copy(update={"scaling": tuple(scaling)})

    @cached_property
    def _windows(self) -> dict[int, Window]:
        """Of the CT channels: about the labelled cases' foreground, or of the training images where none is known."""
        if not any(self._ct):
            return {}
        train = sorted({item.case for item in self.index("train")})
        cases = self._labelled or train[:: math.ceil(len(train) / CASES)]
        drawn, marked = [], []
        for case in cases:
            source = self._source(case)
            values = self._values(source).reshape(len(self.modalities), -1)
            draw = np.random.default_rng(0)
            drawn.append(values[:, draw.integers(values.shape[1], size=VOXELS)])
            if self._labelled:
                labels = self._labels(source).ravel()
                places = np.flatnonzero((labels > 0) & (labels != VOID))
                marked.append(values[:, draw.choice(places, min(VOXELS, len(places)), replace=False)])
        voxels, foreground = np.concatenate(drawn, 1), np.concatenate(marked, 1) if marked else None
        return {
            c: fitted_window(voxels[c], None if foreground is None else foreground[c])
            for c in np.flatnonzero(self._ct).tolist()
        }

    def keep(self, cases: Collection[str]) -> None:
        self.pairs = {case: pair for case, pair in self.pairs.items() if case in cases}
        for known in ("_grids", "_codes", "_headers", "_axes", "reading", "_windows", "_rest"):
            self.__dict__.pop(known, None)

    def files(self) -> Iterable[Path]:
        return [self.about, *(path for pair in self.pairs.values() for path in pair)]

    @cached_property
    def _grids(self) -> dict[str, nifti.Grid]:
        """How each image is stored, by case; no pixels are read."""
        grids = {}
        for case, (image, _) in self.pairs.items():
            volume = nifti.volume(image)
            self._check_modalities(volume.shape, image)
            grids[case] = nifti.grid(volume, image)
        return grids

    @cached_property
    def _codes(self) -> str:
        """The directions that the axes of most images have; every other image is brought to them."""
        codes = Counter(grid.codes for grid in self._grids.values()).most_common(1)[0][0]
        for case, grid in self._grids.items():
            if not grid.told and grid.codes != codes:
                raise InputError(
                    f"{self.pairs[case][0]}: does not say how it lies (sform and qform codes are 0), while others of "
                    f"the task are stored {codes}; copy the header of a file that lies alike"
                )
        return codes

    @cached_property
    def _headers(self) -> dict[str, tuple[tuple[int, ...], tuple[float, ...]]]:
        """Shape and spacing in the order of `_codes`, by case."""
        return {case: grid.along(self._codes) for case, grid in self._grids.items()}

    def _check_modalities(self, shape: tuple[int, ...], path: Path) -> None:
        if len(shape) not in (3, 4) or (shape[3] if len(shape) == 4 else 1) != len(self.modalities):
            wanted = f"{len(self.modalities)} modalities ({', '.join(self.modalities)})"
            raise InputError(f"{path}: shape {shape} does not fit dataset.json's {wanted}; correct one of them")

    @cached_property
    def _axes(self) -> tuple[int, int, int]:
        """Those of `_codes` that are (slices, rows, columns), one order for the whole task.

        Slices are cut along the last axis, unless another one's median spacing is clearly (half as much again) the
        largest.
        """
        spacing = np.median([spacing for _, spacing in self._headers.values()], axis=0)
        axis = int(spacing.argmax())
        axis = axis if spacing[axis] > 1.5 * spacing[2] else 2
        rows, columns = sorted({0, 1, 2} - {axis}, reverse=True)
        return axis, rows, columns

    @property
    def _directions(self) -> str:
        """The directions in which slices, rows and columns run."""
        return "".join(self._codes[axis] for axis in self._axes)

    def _image(self, path: Path) -> NDArray[np.floating[Any]]:
        """(channels, slices, rows, columns) in [0, 1]."""
        return nifti.image(nifti.volume(path), path, self.reading)

    def _values(self, source: Source) -> NDArray[Any]:
        """(channels, slices, rows, columns), CT as stored and MRI in [0, 1]: other labelled cases decode nothing."""

        def decode() -> NDArray[Any]:
            stored = nifti.ordered(nifti.volume(source.image), source.image, self._directions)
            stored = stored[None] if stored.ndim == 3 else np.moveaxis(stored, -1, 0)
            if all(self._ct) and stored.dtype.kind in "iu":
                return stored
            own = Reading(kind="volume", values=(), scaling=(OWN,), half=True)
            channels = zip(stored, self._ct, strict=True)
            return np.stack([np.float32(channel if ct else scaled(channel[None], own)[0]) for channel, ct in channels])

        return self.cache.array(f"{source.key}_values", decode)

    def _labels(self, source: Source) -> Mask:
        """Class indices, (slices, rows, columns)."""
        return self.cache.array(f"{source.key}_mask", lambda: self._mask(source))

    def _mask(self, source: Source) -> Mask:
        assert source.mask is not None
        mask = nifti.volume(source.mask)
        nifti.same_grid(mask, source.mask, nifti.volume(source.image))
        return map_labels(nifti.ordered(mask, source.mask, self._directions), self.mapping, source.mask)

    @classmethod
    def fabricate(cls, root: Path, seed: int = 0, size: int = 1) -> None:
        """12 x size invented MRI volumes in the layout of Task04_Hippocampus: a pair of touching ellipsoids each."""
        write_task(root, seed, 12 * size)
