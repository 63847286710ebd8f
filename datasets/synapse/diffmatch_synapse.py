"""Synapse multi-organ CT: the 30 training cases of BTCV, eight abdominal organs, divided 18/12 as TransUNet does."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import nibabel as nib
import numpy as np

import diffmatch_synapse_btcv as btcv
from diffmatch.domain import (
    ClassInfo,
    Domain,
    Image,
    InputError,
    Item,
    Mask,
    Protocol,
    Sample,
    SplitName,
    map_labels,
)
from diffmatch.readers import arrays, nifti
from diffmatch.readers.volumes import RECIPE, Source, VolumeCard, sample
from diffmatch_synapse_anatomy import doubts
from diffmatch_synapse_phantom import write_case

# TransUNet's lists_Synapse: 18 training and 12 test cases.
TRAIN = frozenset((5, 6, 7, 9, 10, 21, 23, 24, 26, 27, 28, 30, 31, 33, 34, 37, 39, 40))
TEST = frozenset((1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38))

WHERE = (
    "get Abdomen/RawData.zip from https://www.synapse.org/#!Synapse:syn3193805 (an account is needed) and unpack it "
    "so that "
    "DIR/RawData/Training/img/img0001.nii.gz and DIR/RawData/Training/label/label0001.nii.gz exist "
    "(or take TransUNet's prepared files: DIR/train_npz/case0005_slice000.npz, DIR/test_vol_h5/case0001.npy.h5)"
)


class Synapse(Domain):
    """Synapse multi-organ CT: the training cases of BTCV with eight abdominal organs.

    Dataset features:

    * 30 cases, divided 18 / 12 into train and test as TransUNet does; there is no val
    * training items are slices, test items are volumes; the label unit is the case
    * raw volumes are turned by their affine: slices from feet to head, rows from front to back, columns from the
      patient's right to the left
    * an item has the same id in both layouts, so that split hashes agree

    Dataset format:

    * raw: `RawData/Training/{img,label}/{img,label}0001.nii.gz`, as the challenge hands it out, 14 labels of which
      eight are kept
    * archive: `train_npz/case0005_slice000.npz` and `test_vol_h5/case0001.npy.h5`, as TransUNet prepares it
    * one channel; raw values from -125 to 275 Hounsfield units become 0 to 1

    Dataset classes:

    0. background
    1. aorta
    2. gallbladder
    3. left kidney
    4. right kidney
    5. liver
    6. pancreas
    7. spleen
    8. stomach

    If you use this dataset in your research, please cite the following paper:

    * Landman et al., Multi-Atlas Labeling Beyond the Cranial Vault: Workshop and Challenge, MICCAI 2015,
      https://doi.org/10.7303/syn3193805

    Dataset licence:

    * the challenge's terms of use, agreed to on synapse.org (syn3193805)

    Args:
        root: the folder with `RawData/` or `train_npz/`, or one inside or outside it (`Abdomen/`, `Training/`,
            `Synapse/`).

    Raises:
        InputError: neither layout is there.
    """

    card = VolumeCard(
        version=1,
        name="synapse",
        title="Synapse multi-organ CT (BTCV)",
        modality="contrast-enhanced abdominal CT",
        classes=(
            ClassInfo(name="background", color=(0, 0, 0)),
            ClassInfo(name="aorta", color=(213, 94, 0)),
            ClassInfo(name="gallbladder", color=(0, 158, 115)),
            ClassInfo(name="left kidney", color=(86, 180, 233)),
            ClassInfo(name="right kidney", color=(0, 114, 178)),
            ClassInfo(name="liver", color=(153, 79, 42)),
            ClassInfo(name="pancreas", color=(240, 228, 66)),
            ClassInfo(name="spleen", color=(204, 121, 167)),
            ClassInfo(name="stomach", color=(230, 159, 0)),
        ),
        budgets=("1", "2", "4"),
        protocols=(
            Protocol(name="cases12", title="Dice per volume on its own grid, 12 test cases", mode="volume"),
            Protocol(
                name="transunet",
                title="as cases12, organs that a case lacks as TransUNet counts them: 1 if predicted all the same, "
                "else 0",
                mode="volume",
                empty="transunet",
            ),
        ),
        licence="the challenge's terms of use, agreed to on synapse.org (syn3193805)",
        citation="Landman et al., Multi-Atlas Labeling Beyond the Cranial Vault: Workshop and Challenge, MICCAI 2015, "
        "doi:10.7303/syn3193805",
        source=WHERE,
        note="18 training and 12 test cases, no validation split; no list of labelled cases is published, the seeded "
        "protocol draws them",
    )
    # The paper names no settings for Synapse: UniMatch's of ACDC (2D U-Net, SGD 0.01, batch 12, 300 epochs) at
    # TransUNet's 224 x 224. No flip: a mirrored abdomen has its left kidney on the right.
    recipe = RECIPE.updated(
        paper={"data.resize": 224, "data.crop": 224, "data.flip": "none"},
        quick={"data.resize": 64, "train.validations": 0},
    )
    # The hash is of the 2,211 training slices: the list divides, it does not say who is labelled.
    families: ClassVar[dict[str, str]] = {
        "73e18dd93a7628cfa0b6e63a24f0ae48cde5e33187b176ffcb291b52d7395732": "transunet"
    }
    endings = (".h5", ".npz")
    reading = btcv.READING

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        for folder in (
            root,
            root / "Training",
            root / "RawData" / "Training",
            root / "Abdomen" / "RawData" / "Training",
        ):
            if any((folder / "img").glob("img????.nii*")) or any((folder / "label").glob("label????.nii*")):
                self.folder, self.raw = folder, True
                return
        for folder in (root, root / "Synapse", root / "data" / "Synapse"):
            if any((folder / "train_npz").glob("case*.npz")) or any((folder / "test_vol_h5").glob("case*.h5")):
                self.folder, self.raw = folder, False
                return
        raise InputError(f"{root}: neither RawData/Training/img nor train_npz/ and test_vol_h5/ is there; {WHERE}")

    @property
    def layout(self) -> str:
        return "raw BTCV NIfTI (img/, label/)" if self.raw else "TransUNet's archive (train_npz/, test_vol_h5/)"

    def remarks(self) -> list[str]:
        remarks = []
        items = [item for split in self._items.values() for item in split]
        if missing := sorted({_case(number) for number in TRAIN | TEST} - {item.case for item in items}):
            names = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            remarks.append(f"{len(missing)} of the 30 cases are missing ({names}): scores are not comparable; {WHERE}")
        remarks += self._orientations() if self.raw else self._ranges()
        masks = [sample.mask for item in self._items["test"][:2] if (sample := self.read(item)).mask is not None]
        return remarks + doubts(masks, self.card.names, upright=self.raw)

    def index(self, split: SplitName) -> list[Item]:
        return self._items[split]

    def read(self, item: Item, mask: bool = True) -> Sample:
        source: Source = item.ref
        key, path = source.key, source.image
        image = self.cache.array(f"{key}_image", lambda: btcv.image(path)) if self.raw else arrays.array(path, "image")
        labels = self.cache.array(f"{key}_mask", lambda: _labels(source)) if mask else None
        return sample(source, image[None], labels)

    @classmethod
    def outside(cls, path: Path) -> Image:
        return arrays.volume(path, "image")

    @cached_property
    def _items(self) -> dict[SplitName, list[Item]]:
        items: dict[SplitName, list[Item]] = {"train": [], "val": [], "test": []}
        for split, item in self._raw_items() if self.raw else self._archive_items():
            items[split].append(item)
        return items

    def _raw_items(self) -> Iterator[tuple[SplitName, Item]]:
        """Slices of training cases, volumes of the others; only headers are read."""
        images, masks = (_found(self.folder / name, rf"{name}(\d{{4}})\.nii(?:\.gz)?") for name in ("img", "label"))
        for key in sorted(images.keys() | masks.keys()):
            case, (number,) = _case(*key), key
            if number not in TRAIN | TEST:
                continue
            if key not in images or key not in masks:
                there, absent = (images[key], "label") if key in images else (masks[key], "img")
                raise InputError(f"{there}: its {absent}/{absent}{number:04d}.nii.gz is missing; unpack the set again")
            volume = btcv.opened(images[key])
            axes = btcv.axes(volume, images[key])
            sizes = nifti.spacing(volume, images[key])
            spacing = tuple(sizes[axis] for axis in axes)
            if number in TEST:
                yield "test", Item(case, case, Source(case, images[key], masks[key], spacing))
            else:
                for k in range(volume.shape[axes[0]]):
                    yield "train", Item(f"{case}_slice{k:03d}", case, Source(case, images[key], masks[key], spacing, k))

    def _archive_items(self) -> Iterator[tuple[SplitName, Item]]:
        slices = _found(self.folder / "train_npz", r"case(\d{4})_slice(\d+)\.npz")
        volumes = _found(self.folder / "test_vol_h5", r"case(\d{4})(?:\.npy)?\.h5")
        for (number, _), path in sorted(slices.items()):
            if number in TEST:
                raise InputError(
                    f"{path}: a slice of a test case among the training slices; take an archive of the 18/12 division"
                )
            if number in TRAIN:
                yield "train", Item(path.stem, _case(number), Source(path.stem, path, path))
        for (number,), path in sorted(volumes.items()):
            if number in TEST:  # archives hold the training cases as volumes too
                yield "test", Item(_case(number), _case(number), Source(_case(number), path, path))

    def _orientations(self) -> list[str]:
        """How raw volumes are stored, and whether their headers say so."""
        volumes = [
            nifti.volume(path) for path in sorted({item.ref.image for split in self._items.values() for item in split})
        ]
        stored = Counter("".join(nib.aff2axcodes(volume.affine)) for volume in volumes)
        orientations = ", ".join(f"{count} as {axes}" for axes, count in stored.most_common())
        remarks = [f"volumes are stored {orientations}; all are turned feet to head, front to back, right to left"]
        silent = [volume for volume in volumes if not (volume.header["sform_code"] or volume.header["qform_code"])]
        if silent:
            remarks.append(
                f"{len(silent)} volumes do not say how they lie (sform and qform codes are 0): left and right are a "
                "guess"
            )
        return remarks

    def _ranges(self) -> list[str]:
        """Values of an archive, in two volumes and about twenty slices: TransUNet's own are not in [0, 1]."""
        train = self._items["train"]
        items = [*self._items["test"][:2], *train[:: max(1, len(train) // 20)]]
        images = [arrays.array(item.ref.image, "image") for item in items]
        low, high = min(float(image.min()) for image in images), max(float(image.max()) for image in images)
        note = "" if low >= 0 and high <= 1 else ", beyond [0, 1]; they are used as they are"
        return [f"image values run from {low:.3g} to {high:.3g} in {len(images)} files looked at{note}"]

    @classmethod
    def fabricate(cls, root: Path, seed: int = 0, size: int = 1) -> None:
        """Raw layout, invented pixels: all 30 cases, 22 to 26 slices each times `size`.

        A third of the volumes are stored along other axes than LAS, and two test cases have no gallbladder.
        """
        for number in sorted(TRAIN | TEST):
            rng = np.random.default_rng([seed, number])
            axes = "LAS" if number % 3 else ("RAS", "LPS", "PIR", "ASL")[number // 3 % 4]
            folder = root / "RawData" / "Training"
            write_case(folder, number, rng, axes, int(rng.integers(22, 27)) * size, gallbladder=number not in (4, 29))


def _case(number: int) -> str:
    return f"case{number:04d}"


def _found(folder: Path, pattern: str) -> dict[tuple[int, ...], Path]:
    """Files whose whole name fits, by the numbers in it."""
    names = ((re.fullmatch(pattern, path.name), path) for path in sorted(folder.glob("*")))
    return {tuple(int(number) for number in match.groups()): path for match, path in names if match}


def _labels(source: Source) -> Mask:
    """Class indices, shape of the image."""
    assert source.mask is not None
    if source.spacing is not None:
        return btcv.labels(source.mask, source.image)
    return map_labels(arrays.array(source.mask, "label", like="image"), {c: c for c in range(9)}, source.mask)
