"""Any task of the Medical Segmentation Decathlon: a folder with dataset.json, imagesTr/ and labelsTr/."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffmatch.domain import (
    ClassInfo,
    Domain,
    InputError,
    Item,
    Mask,
    Percentiles,
    Protocol,
    Reading,
    Sample,
    SplitName,
    Window,
    distinct_color,
    map_labels,
)
from diffmatch.readers import inside, nifti
from diffmatch.readers.volumes import RECIPE, Source, VolumeCard, sample
from diffmatch_msd_phantom import write_task

# Hounsfield units that become 0 and 1: soft tissue as in TransUNet's abdominal protocol, and a wide window where the
# organ is the lung.
SOFT_TISSUE, LUNG = Window(low=-125, high=275), Window(low=-1000, high=400)

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
    * CT is windowed in Hounsfield units, MRI is scaled by each volume's 0.5 and 99.5 percentiles

    Dataset classes:

    * those of dataset.json, in the order of their values; 0 is background

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
        try:
            task = json.loads(self.about.read_text())
            labels = {int(value): str(name) for value, name in task["labels"].items()}
            self.modalities = [str(text) for _, text in sorted((int(k), v) for k, v in task["modality"].items())]
            entries = [
                (
                    _stem(entry["image"]),
                    inside(root, entry["image"], self.about),
                    inside(root, entry["label"], self.about),
                )
                for entry in task["training"]
            ]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.about}: not a decathlon dataset.json ({type(error).__name__}: {error}); it needs labels, "
                "modality and training"
            ) from error
        if 0 not in labels or len(labels) < 2 or not self.modalities:
            raise InputError(
                f"{self.about}: 'labels' must name 0 (background) and another value, 'modality' at least one; correct "
                "it"
            )
        # Archives packed on macOS carry a hidden twin ("._name") of every file.
        self.pairs = {case: (image, mask) for case, image, mask in sorted(entries) if not case.startswith("._")}
        self._check_files(Counter(case for case, *_ in entries))
        # Raw values need not be consecutive; classes are.
        self.mapping = {value: c for c, value in enumerate(sorted(labels))}
        self.name = str(task.get("name", root.name))
        self.card = self.card.model_copy(
            update={
                "title": f"{self.name} (Medical Segmentation Decathlon)",
                "modality": ", ".join(self.modalities),
                "classes": tuple(ClassInfo(name=labels[v], color=_color(c)) for v, c in self.mapping.items()),
                "channels": len(self.modalities),
                "licence": str(task.get("licence", self.card.licence)),
                "note": str(task.get("description", "")),
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
        cases = list(self.pairs)
        order = np.random.default_rng(0).permutation(len(cases))
        test, val = max(1, round(0.2 * len(cases))), round(0.1 * len(cases))
        train = len(cases) - val - test
        chosen = {"train": order[:train], "val": order[train : train + val], "test": order[train + val :]}[split]
        items = []
        for case in sorted(cases[i] for i in chosen):
            shape, spacing = self._headers[case]
            key = case if self._grids[case].codes == self._codes else f"{case}_{self._codes}"
            source = Source(key, *self.pairs[case], tuple(spacing[axis] for axis in self._axes))
            if split == "train":
                planes = range(shape[self._axes[0]])
                items += [Item(f"{case}_slice_{k:03d}", case, replace(source, plane=k)) for k in planes]
            else:
                items.append(Item(case, case, source))
        return items

    def read(self, item: Item, mask: bool = True) -> Sample:
        source: Source = item.ref
        pixels = self.cache.array(f"{source.key}_image", lambda: self._image(source.image))
        labels = self.cache.array(f"{source.key}_mask", lambda: self._mask(source)) if mask else None
        return sample(source, pixels, labels)

    @cached_property
    def reading(self) -> Reading:
        """CT is windowed. MRI has no unit: each volume is scaled by its own percentiles.

        Half precision, since a CT of the decathlon has up to 10^8 voxels.
        """
        window = LUNG if "lung" in self.name.lower() else SOFT_TISSUE
        ct = ["CT" in modality.upper().replace("-", " ").split() for modality in self.modalities]
        scaling = tuple(window if one else Percentiles(low=0.5, high=99.5) for one in ct)
        return Reading(kind="volume", values=tuple(self.mapping), axes=self._directions, scaling=scaling, half=True)

    def keep(self, cases: Collection[str]) -> None:
        self.pairs = {case: pair for case, pair in self.pairs.items() if case in cases}
        for known in ("_grids", "_codes", "_headers", "_axes", "reading"):
            self.__dict__.pop(known, None)

    def files(self) -> Iterable[Path]:
        return [self.about, *(path for pair in self.pairs.values() for path in pair)]

    def _check_files(self, entries: Counter[str]) -> None:
        """Every entry is there once with both files, and every mask on disk has an entry.

        What is wrong is named, not skipped.
        """
        images = [image.name for image, _ in self.pairs.values() if not image.is_file()]
        masks = [mask.name for _, mask in self.pairs.values() if not mask.is_file()]
        known = {mask.name for _, mask in self.pairs.values()}
        strays = sorted(
            path.name
            for path in self.root.glob("labelsTr/*.nii*")
            if not path.name.startswith("._") and path.name not in known
        )
        twice = [case for case, count in entries.items() if count > 1]
        problems = {
            "images are missing": images,
            "masks are missing": masks,
            "masks have no entry": strays,
            "cases are listed twice": twice,
        }
        for what, names in problems.items():
            if names:
                some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
                raise InputError(
                    f"{self.about}: {len(names)} {what} ({some}); unpack the task again or correct the list"
                )
        if len(self.pairs) < 3:
            raise InputError(f"{self.about}: {len(self.pairs)} labelled cases; train, val and test need at least 3")

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

    def _mask(self, source: Source) -> Mask:
        """Class indices, (slices, rows, columns)."""
        assert source.mask is not None
        mask = nifti.volume(source.mask)
        nifti.same_grid(mask, source.mask, nifti.volume(source.image))
        return map_labels(nifti.ordered(mask, source.mask, self._directions), self.mapping, source.mask)

    @classmethod
    def fabricate(cls, root: Path, seed: int = 0, size: int = 1) -> None:
        """12 x size invented MRI volumes in the layout of Task04_Hippocampus: a pair of touching ellipsoids each."""
        write_task(root, seed, 12 * size)


def _stem(name: str) -> str:
    return Path(name).name.removesuffix(".gz").removesuffix(".nii")
