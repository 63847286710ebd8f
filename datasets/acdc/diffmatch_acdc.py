"""ACDC: short-axis cardiac cine MRI, left and right ventricle and myocardium at end diastole and end systole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
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
from diffmatch.readers import arrays, nifti, text_of
from diffmatch.readers.volumes import RECIPE, Source, VolumeCard, sample
from diffmatch_acdc_phantom import write_patient

LABELS = {0: 0, 1: 1, 2: 2, 3: 3}

# The lists of SSL4MIS (data/ACDC/{val,test}.list), the same in UniMatch: 70/10/20 of the 100 public training patients.
VAL = frozenset((2, 19, 28, 30, 39, 45, 78, 82, 85, 87))
TEST = frozenset((1, 7, 8, 11, 13, 22, 24, 33, 52, 59, 64, 65, 66, 68, 75, 80, 81, 83, 84, 93))
PATIENTS = range(1, 101)

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

WHERE = (
    "get it from https://www.creatis.insa-lyon.fr/Challenge/acdc and unpack it so that DIR/training/patient001/ exists "
    "(or take the prepared h5 files of SSL4MIS: DIR/data/slices/, DIR/data/patient001_frame01.h5)"
)


class ACDC(Domain):
    """ACDC: short-axis cardiac cine MRI, the heart's ventricles and myocardium.

    Dataset features:

    * 100 public patients in five groups of equal size, two labelled volumes each: end diastole and end systole
    * training items are slices, val and test items are volumes; the label unit is the patient
    * divided 70 / 10 / 20 as SSL4MIS and UniMatch do; the labelled patients of the budgets 1, 3 and 7 are theirs
    * ids follow the community's lists in both layouts, so that split hashes agree: frame 01 is end diastole, 02 end
      systole, slices count from 1

    Dataset format:

    * raw: `training/patient###/{Info.cfg, patient###_frame##.nii.gz, patient###_frame##_gt.nii.gz}`, as the challenge
      hands it out
    * h5: `data/slices/patient###_frame01_slice_1.h5` and `data/patient###_frame01.h5`, as SSL4MIS and UniMatch prepare
      it
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
        root: the folder with `training/` or `data/`, or one of these two itself.

    Raises:
        InputError: neither layout is there.
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
        for folder in (root / "training", root / "database" / "training", root):
            if any(_number(path.name) for path in folder.glob("patient???")):
                self.folder, self.raw = folder, True
                return
        for folder in (root / "data", root):
            if any((folder / "slices").glob("patient*_slice_*.h5")):
                self.folder, self.raw = folder, False
                return
        raise InputError(f"{root}: neither training/patient001/ nor data/slices/*.h5 is there; {WHERE}")

    def remarks(self) -> list[str]:
        if missing := sorted(
            {f"patient{number:03d}" for number in PATIENTS} - {i.case for items in self._items.values() for i in items}
        ):
            names = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            tested = sum(_number(name) in TEST for name in missing)
            return [
                f"{len(missing)} of the 100 patients are missing ({names}), {tested} of them the test's: scores are "
                f"not comparable; {WHERE}"
            ]
        return []

    def index(self, split: SplitName) -> list[Item]:
        return self._items[split]

    def divide(self, parts: Mapping[str, SplitName]) -> None:
        self._parts = parts
        self.__dict__.pop("_items", None)
        if missing := sorted(case for case, part in parts.items() if not any(i.case == case for i in self.index(part))):
            what = "slices" if parts[missing[0]] == "train" else "volumes"
            raise InputError(
                f"{self.folder}: no {what} of {missing[0]} ({len(missing)} patients lack what they need); the prepared "
                "files have slices or volumes of a patient, take the challenge's own"
            )

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
                f"{self.folder}: budget {budget} needs the masks of {', '.join(missing)}, which are not there; add them"
            )
        return Published("ssl4mis", ids)

    @cached_property
    def _items(self) -> dict[SplitName, list[Item]]:
        items: dict[SplitName, list[Item]] = {"train": [], "val": [], "test": []}
        for number, item in self._raw_items() if self.raw else self._h5_items():
            split = self._part(number)
            if split != "train" and not item.masked:
                raise InputError(
                    f"{item.ref.image}: its mask (..._gt.nii.gz) is missing, and {item.case} belongs to {split}; add it"
                )
            items[split].append(item)
        return items

    def _raw_items(self) -> Iterator[tuple[int, Item]]:
        """Slices of training patients, volumes of the others; only headers are read."""
        for folder in sorted(self.folder.glob("patient???")):
            number = _number(folder.name)
            if not number:
                continue
            for phase, frame in enumerate(_phases(folder), 1):
                image, mask = _nifti(folder, frame), _nifti(folder, f"{frame}_gt")
                if image is None:
                    raise InputError(
                        f"{folder / frame}.nii.gz: missing, though Info.cfg or its mask names it; copy the patient "
                        "again"
                    )
                key, volume = f"{folder.name}_frame{phase:02d}", _open(image)
                spacing = nifti.spacing(volume, image)[::-1]
                if spacing[0] < max(spacing[1:]):
                    raise InputError(
                        f"{image}: voxels of {spacing[0]:.3g} mm along the last axis, which is that of the slices, and "
                        f"{max(spacing[1:]):.3g} mm along another; store it as (X, Y, Z)"
                    )
                planes = range(volume.shape[2]) if self._part(number) == "train" else (None,)
                for k in planes:
                    name = key if k is None else f"{key}_slice_{k + 1}"
                    yield number, Item(name, folder.name, Source(key, image, mask, spacing, k), masked=mask is not None)

    def _h5_items(self) -> Iterator[tuple[int, Item]]:
        slices = [(path, True) for path in (self.folder / "slices").glob("patient*_frame*_slice_*.h5")]
        volumes = [(path, False) for path in self.folder.glob("patient*_frame??.h5")]
        # By number, not by letter: slice 2 comes before slice 10, as in the raw layout.
        for path, is_slice in sorted(
            slices + volumes, key=lambda pair: [int(n) for n in re.findall(r"\d+", pair[0].stem)]
        ):
            number = _number(path.name[:10])
            if number and is_slice == (self._part(number) == "train"):
                yield number, Item(path.stem, path.name[:10], Source(path.stem, path, path))

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


def _number(name: str) -> int:
    """The number of a patient of the protocol by folder name, 0 for anything else."""
    match = re.fullmatch(r"patient(\d{3})", name)
    return int(match[1]) if match and int(match[1]) in PATIENTS else 0


def _split(number: int) -> SplitName:
    return "val" if number in VAL else "test" if number in TEST else "train"


def _phases(folder: Path) -> list[str]:
    """Names of the ED and the ES frame, by Info.cfg, or if that does not say, the two frames that have masks."""
    info = folder / "Info.cfg"
    try:
        text = text_of(info) if info.is_file() else ""
    except OSError as error:
        raise InputError(f"{info}: cannot be read as text ({type(error).__name__}); copy it again") from error
    frame_of = dict(re.findall(r"^\s*(ED|ES)\s*[:=]\s*(\d+)", text, re.MULTILINE))
    if len(frame_of) == 2:
        return [f"{folder.name}_frame{int(frame_of[phase]):02d}" for phase in ("ED", "ES")]
    frames = sorted(
        {
            match[1]
            for path in folder.iterdir()
            if (match := re.fullmatch(r"(patient\d+_frame\d+)_gt\.nii(\.gz)?", path.name))
        }
    )
    if len(frames) != 2:
        raise InputError(
            f"{folder}: Info.cfg does not give ED and ES, and {len(frames)} frames have masks where 2 should; copy it "
            "again"
        )
    return frames


def _nifti(folder: Path, stem: str) -> Path | None:
    return next((path for end in (".nii.gz", ".nii") if (path := folder / (stem + end)).is_file()), None)


def _open(path: Path) -> Any:
    """A NIfTI file's header and affine; pixels are not read yet."""
    volume = nifti.volume(path)
    if len(volume.shape) != 3:
        raise InputError(
            f"{path}: expected a volume of 3 axes, found shape {volume.shape}; take the single frames, not the 4D file"
        )
    return volume


def _read_image(source: Source) -> NDArray[np.floating[Any]]:
    """Float32, (Z, Y, X) or one slice (Y, X). NIfTI volumes are scaled min-max to [0, 1]; h5 files already are."""
    if source.image.suffix == ".h5":
        return arrays.array(source.image, "image").astype(np.float32)
    pixels: NDArray[np.floating[Any]] = nifti.image(_open(source.image), source.image, ACDC.reading)[0]
    return pixels


def _read_mask(source: Source) -> Mask:
    """Class indices, shape of the image."""
    assert source.mask is not None
    if source.mask.suffix == ".h5":
        return map_labels(arrays.array(source.mask, "label", like="image"), LABELS, source.mask)
    mask = _open(source.mask)
    nifti.same_grid(mask, source.mask, _open(source.image))
    return map_labels(nifti.ordered(mask, source.mask, ACDC.reading.axes), LABELS, source.mask)
