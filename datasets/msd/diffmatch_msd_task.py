"""What a task's dataset.json says, in the decathlon's form and in that of nnU-Net's second version."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffmatch.domain import InputError, is_void
from diffmatch.readers import children, inside, text_of

ENDINGS = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Entry:
    """A labelled case: image and mask, which need not be there."""

    case: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class Task:
    """A dataset.json.

    Attributes:
        labels: value in the masks -> name, without those of void.
        void: values that are void, whatever they are.
        modalities: of the channels, in their order.
        entries: sorted by case; one that is listed twice stands here twice.
        told: the file's whole content.
    """

    labels: Mapping[int, str]
    void: tuple[int, ...]
    modalities: tuple[str, ...]
    entries: tuple[Entry, ...]
    told: Mapping[str, Any]


def read_task(path: Path) -> Task:
    """A dataset.json with `labels`, `modality` and `training`, or nnU-Net's with `labels` and `channel_names`.

    nnU-Net lists no cases: they are the masks in labelsTr/, and the image of CASE is imagesTr/CASE_0000.

    Raises:
        InputError: neither; or what only nnU-Net reads: labels of several values, one file for each channel, files
            that are not NIfTI.
    """
    try:
        told = json.loads(text_of(path))
        names = _names(told["labels"], path)
        channels = told["channel_names"] if "channel_names" in told else told["modality"]
        modalities = tuple(str(text) for _, text in sorted((int(k), v) for k, v in channels.items()))
        if "training" in told:
            entries = [
                Entry(_stem(e["image"]), inside(path.parent, e["image"], path), inside(path.parent, e["label"], path))
                for e in told["training"]
            ]
        elif "channel_names" in told:
            entries = _found(path, str(told.get("file_ending", ENDINGS[0])), modalities)
        else:
            raise KeyError("training")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not a decathlon dataset.json ({type(error).__name__}: {error}); it needs labels, "
            "modality and training, or nnU-Net's labels and channel_names"
        ) from error
    labels = {value: name for value, name in sorted(names.items()) if not is_void(name)}
    if 0 in names and 0 not in labels:
        raise InputError(
            f"{path}: 0 is called '{names[0]}', a name of void, but it is the background of such a task; call it so, "
            "or give void a value of its own"
        )
    if 0 not in labels or len(labels) < 2 or not modalities:
        raise InputError(
            f"{path}: 'labels' must name 0 (background) and another value, 'modality' at least one; correct it"
        )
    return Task(
        labels=labels,
        void=tuple(sorted(set(names) - set(labels))),
        modalities=modalities,
        entries=tuple(sorted(entries, key=lambda entry: entry.case)),
        told=told,
    )


def check_files(about: Path, pairs: Mapping[str, tuple[Path, Path]], entries: Counter[str]) -> None:
    """Every entry is there once with both files, and every mask on disk has an entry.

    What is wrong is named, not skipped.
    """
    images = [image.name for image, _ in pairs.values() if not image.is_file()]
    masks = [mask.name for _, mask in pairs.values() if not mask.is_file()]
    known = {mask.name for _, mask in pairs.values()}
    strays = sorted(
        path.name for path in children(about.parent / "labelsTr") if ".nii" in path.name and path.name not in known
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
            raise InputError(f"{about}: {len(names)} {what} ({some}); unpack the task again or correct the list")
    if len(pairs) < 3:
        raise InputError(f"{about}: {len(pairs)} labelled cases; train, val and test need at least 3")


def _names(labels: Mapping[str, Any], path: Path) -> dict[int, str]:
    """The decathlon's {"1": "tumour"} or nnU-Net's {"tumour": 1} as value -> name."""
    names: dict[int, str] = {}
    for key, value in labels.items():
        if isinstance(value, list):
            raise InputError(f"{path}: '{key}' is a region of several values; give each value a label of its own")
        number, name = (int(key), value) if isinstance(value, str) else (int(value), key)
        if number in names:
            raise InputError(f"{path}: the value {number} is both '{names[number]}' and '{name}'; keep one of them")
        names[number] = name
    return names


def _found(path: Path, ending: str, modalities: tuple[str, ...]) -> list[Entry]:
    """The cases of nnU-Net's folders: a mask each, and an image for each mask."""
    if ending not in ENDINGS:
        raise InputError(f"{path}: files of ending '{ending}'; convert them to NIfTI ({', '.join(ENDINGS)})")
    if len(modalities) != 1:
        raise InputError(
            f"{path}: {len(modalities)} channels ({', '.join(modalities)}) in a file each; join those of a case to one "
            "file with a fourth axis, and list the cases under 'training' as the decathlon does"
        )
    images, masks = (
        {file.name.removesuffix(ending): file for file in sorted((path.parent / folder).glob(f"[!.]*{ending}"))}
        for folder in ("imagesTr", "labelsTr")
    )
    if bare := [file.name for name, file in images.items() if re.sub(r"_\d{4}$", "", name) not in masks]:
        raise InputError(f"{path}: {len(bare)} images have no mask in labelsTr/ ({bare[0]}); add it or take them out")
    return [Entry(case, path.parent / "imagesTr" / f"{case}_0000{ending}", mask) for case, mask in masks.items()]


def _stem(name: str) -> str:
    return Path(name).name.removesuffix(".gz").removesuffix(".nii")
