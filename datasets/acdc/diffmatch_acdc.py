"""ACDC: short-axis cardiac cine MRI, left and right ventricle and myocardium at end diastole and end systole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffmatch.domain import (
    ClassInfo,
    Domain,
    Image,
    InputError,
    Item,
    Mask,
    MinMax,
    Protocol,
    Published,
    Reading,
    Sample,
    SplitName,
    map_labels,
)
from diffmatch.readers import arrays, nifti
from diffmatch.readers.volumes import RECIPE, Source, VolumeCard, sample
from diffmatch_acdc_layouts import PATIENTS, WHERE, find, number_of, opened
from diffmatch_acdc_phantom import write_patient

LABELS = {0: 0, 1: 1, 2: 2, 3: 3}

# The lists of SSL4MIS (data/ACDC/{val,test}.list), the same in UniMatch: 70/10/20 of the 100 public training patients.
VAL = frozenset((2, 19, 28, 30, 39, 45, 78, 82, 85, 87))
TEST = frozenset((1, 7, 8, 11, 13, 22, 24, 33, 52, 59, 64, 65, 66, 68, 75, 80, 81, 83, 84, 93))

# Their labelled patients (UniMatch, splits/acdc/{1,3,7}/labeled.txt; SSL4MIS: the first 32, 68 and 136 lines of
# train_slices.list).
BUDGETS = {"1": (99,), "3": (38, 50, 99), "7": (21, 38, 49, 50, 58, 99, 100)}

# The same members as lists of slices, as UniMatch and SSL4MIS publish them.
LISTS = {
    "b89ed840195bde2b17461f2f78aa1767d118e9442a28aea23a92160eb02602fd": "ssl4mis",  # 1: 32 slices
    "d018c9122fc72cd0d8b52bdf8a1cac0d75bd10b2c186f380740b6cb5b46088b4": "ssl4mis",  # 3: 68 slices
    "d35805cc6298cb2a5e1a287d6e44800310cd228ba8679a1e9283464e2da85ac1": "ssl4mis",  # 7: 136 slices
    "59d3e9a6545a82f07d5c321b684b5eeb01ab2765e4f4cf88bd9f8db1dc17d035": "ssl4mis",  # the division: 1312 slices
}


class ACDC(Domain):
    """ACDC: short-axis cardiac cine MRI, the heart's ventricles and myocardium.

    Dataset features:

    * 100 public patients in five groups of equal size, two labelled volumes each: end diastole and end systole
    * training items are slices, val and test items are volumes; the label unit is the patient
    * divided 70 / 10 / 20 as SSL4MIS and UniMatch do; the labelled patients of the budgets 1, 3 and 7 are theirs
    * ids follow the community's lists in all layouts, so that split hashes agree: frame 01 is end diastole, 02 end
      systole, slices count from 1

    Dataset format:

    * raw: `training/patient###/{Info.cfg, patient###_frame##.nii.gz, patient###_frame##_gt.nii.gz}`, as the challenge
      hands it out
    * h5: `data/slices/patient###_frame01_slice_1.h5` and `data/patient###_frame01.h5`, as SSL4MIS and UniMatch prepare
      it
    * h5: `ACDC_training_slices/patient###_frame##_slice_0.h5` and `ACDC_training_volumes/patient###_frame##.h5`, as
      WSL4MIS prepares it
    * one channel, scaled min-max per volume; masks hold 0 to 3

    Dataset classes:

    0. background
    1. right ventricle
    2. myocardium
    3. left ventricle

    If you use this dataset in your research, please cite the following paper:

    * Bernard et al., Deep Learning Techniques for Automatic MRI Cardiac Multi-structures Segmentation and Diagnosis: Is
      the Problem Solved?, IEEE TMI 37(11), 2018, https://doi.org/10.1109/TMI.2018.2837502

    Dataset licence:

    * CC BY-NC-SA 4.0

    Args:
        root: the folder with `training/`, `data/` or `ACDC_training_slices/`, or one of the first two itself.

    Raises:
        InputError: none of the layouts is there.
    """

    card = VolumeCard(
        version=1,
        name="acdc",
        title="ACDC cardiac MRI",
        modality="short-axis cine MRI",
        classes=(
            ClassInfo(name="background", color=(0, 0, 0)),
            ClassInfo(name="right ventricle", color=(0, 114, 178)),
            ClassInfo(name="myocardium", color=(240, 228, 66)),
            ClassInfo(name="left ventricle", color=(213, 94, 0)),
        ),
        budgets=tuple(BUDGETS),
        protocols=(
            Protocol(name="test40", title="Dice per volume, 40 test volumes", mode="volume"),
            Protocol(
                name="unimatch60",
                title="Dice per volume, val and test volumes together",
                mode="volume",
                splits=("val", "test"),
            ),
        ),
        licence="CC BY-NC-SA 4.0",
        citation="Bernard et al., Deep Learning Techniques for Automatic MRI Cardiac Multi-structures Segmentation "
        "and Diagnosis: "
        "Is the Problem Solved?, IEEE Transactions on Medical Imaging 37(11), 2018",
        source=WHERE,
        note="the 50 patients of testing/ are not part of this protocol and are not read",
    )
    families = LISTS
    recipe = RECIPE.updated(quick={"data.resize": 96})
    endings = (".h5",)
    # (Z, Y, X) is the order that SimpleITK and so the h5 files have; NIfTI stores (X, Y, Z).
    reading = Reading(kind="volume", values=tuple(LABELS), axes=(2, 1, 0), scaling=(MinMax(),))

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._parts: Mapping[str, SplitName] = {}
        self.archive = find(root)

    def remarks(self) -> list[str]:
        frames: dict[str, set[str]] = {f"patient{number:03d}": set() for number in PATIENTS}
        for item in (item for items in self._items.values() for item in items):
            frames[item.case].add(item.id.split("_slice_")[0])
        lines = []
        if missing := [name for name, present in frames.items() if not present]:
            tested = sum(number_of(name) in TEST for name in missing)
            lines.append(
                f"{len(missing)} of the 100 patients are missing ({_some(missing)}), {tested} of them the test's: "
                f"scores are not comparable; {WHERE}"
            )
        if halves := sorted(name for present in frames.values() if len(present) == 1 for name in present):
            lines.append(f"of {len(halves)} patients there is one frame of two ({_some(halves)}); add the other")
        return lines

    def index(self, split: SplitName) -> list[Item]:
        return self._items[split]

    def divide(self, parts: Mapping[str, SplitName]) -> None:
        self._parts = parts
        self.__dict__.pop("_items", None)
        if missing := sorted(parts.keys() - {i.case for part in set(parts.values()) for i in self.index(part)}):
            raise InputError(f"{self.root}: no {missing[0]} ({len(missing)} patients are not there); add them")

    def _part(self, number: int) -> SplitName:
        return self._parts.get(f"patient{number:03d}", _split(number))

    def read(self, item: Item, mask: bool = True) -> Sample:
        source: Source = item.ref
        pixels = self.cache.array(f"{source.key}_image", lambda: _read_image(source))
        labels = self.cache.array(f"{source.key}_mask", lambda: _read_mask(source)) if mask and source.mask else None
        return sample(source, pixels[None], labels)

    @classmethod
    def outside(cls, path: Path) -> Image:
        return arrays.volume(path, "image")

    def files(self) -> Iterable[Path]:
        paths = set(super().files())
        return sorted(paths | {info for path in paths if (info := path.parent / "Info.cfg").is_file()})

    def published(self, budget: str) -> Published | None:
        if budget not in BUDGETS:
            return None
        ids = tuple(f"patient{number:03d}" for number in BUDGETS[budget])
        labelled = {item.case for item in self._items["train"] if item.masked}
        if missing := sorted(set(ids) - labelled):
            raise InputError(
                f"{self.root}: budget {budget} needs the masks of {', '.join(missing)}, which are not there; add them"
            )
        return Published("ssl4mis", ids)

    @cached_property
    def _items(self) -> dict[SplitName, list[Item]]:
        items: dict[SplitName, list[Item]] = {"train": [], "val": [], "test": []}
        for number, item in self.archive.items(self._part):
            split = self._part(number)
            if split != "train" and not item.masked:
                raise InputError(
                    f"{item.ref.image}: its mask (..._gt.nii.gz) is missing, and {item.case} belongs to {split}; add it"
                )
            items[split].append(item)
        return items

    @classmethod
    def fabricate(cls, root: Path, seed: int = 0, size: int = 1) -> None:
        """Raw layout, invented pixels.

        The labelled patients of all budgets, 9 x size more to train on, 3 x size for val, 5 x size for test.

        Patients keep their real names. patient090's end diastole is frame 04, as in the real set. A patient looks the
        same at every size.
        """
        labelled = BUDGETS["7"]
        others = np.random.default_rng(seed).permutation(
            [n for n in PATIENTS if _split(n) == "train" and n not in (*labelled, 90)]
        )
        chosen = [*labelled, 90, *others[: 9 * size - 1], *sorted(VAL)[: 3 * size], *sorted(TEST)[: 5 * size]]
        for count, number in enumerate(int(n) for n in chosen):
            folder = root / "training" / f"patient{number:03d}"
            write_patient(folder, np.random.default_rng([seed, number]), ed=4 if number == 90 else 1, cine=count < 3)


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _split(number: int) -> SplitName:
    return "val" if number in VAL else "test" if number in TEST else "train"


def _read_image(source: Source) -> NDArray[np.floating[Any]]:
    """Float32, (Z, Y, X) or one slice (Y, X). NIfTI volumes are scaled min-max to [0, 1]; h5 files already are."""
    if source.image.suffix == ".h5":
        return arrays.array(source.image, "image").astype(np.float32)
    pixels: NDArray[np.floating[Any]] = nifti.image(opened(source.image), source.image, ACDC.reading)[0]
    return pixels


def _read_mask(source: Source) -> Mask:
    """Class indices, shape of the image."""
    assert source.mask is not None
    if source.mask.suffix == ".h5":
        return map_labels(arrays.array(source.mask, "label", like="image"), LABELS, source.mask)
    mask = opened(source.mask)
    nifti.same_grid(mask, source.mask, opened(source.image))
    return map_labels(nifti.ordered(mask, source.mask, ACDC.reading.axes), LABELS, source.mask)
