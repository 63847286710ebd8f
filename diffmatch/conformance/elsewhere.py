"""The check that a file is read without its data set as it is read with it."""

from __future__ import annotations

import shutil
import tempfile
from itertools import permutations
from pathlib import Path

import numpy as np

from diffmatch.conformance.tampering import copied, opened_files, replace
from diffmatch.domain import VOID, Domain, Image, Item, Reading, Sample, Scene, paths_in
from diffmatch.model.mask_files import write_mask
from diffmatch.readers import outside

WINDOW = 512
"""Side of what is looked at of a scene."""


def check_outside(domain: type[Domain], root: Path) -> str | None:
    """A copy of a test item's file, read by what a run records of the domain, is the item's image.

    A mask that is written for it is read as what was written.
    """
    opened = domain(root)
    card, reading = opened.card, Reading.model_validate_json(opened.reading.model_dump_json())
    values = reading.values
    assert len(set(values)) == len(values) == len(card.classes), "reading.values: each class needs a number of its own"
    item = opened.index("test")[0]
    files = _image_files(opened, item)
    own = [path for path in files if path.name.lower().endswith(domain.endings)]
    fitting = own or [path for path in files if path.name.lower().endswith(outside.endings_of(reading))]
    if len(fitting) != (1 if own else card.dates):
        return f"an item is no file of its own that is read from elsewhere ({len(fitting)} files fit)"
    sample, name = opened.read(item), fitting[0].name
    with tempfile.TemporaryDirectory() as folder:
        copies = []
        for number, path in enumerate(fitting):
            (Path(folder) / str(number)).mkdir()
            copies.append(Path(shutil.copy(path, Path(folder) / str(number))))
        if own:
            contents = [domain.outside(copies[0])]
        elif card.dates == 2:  # which is the earlier one, the domain knows
            contents = [outside.of_pair(*dates, card, reading) for dates in permutations(copies, 2)]
        else:
            contents = [outside.of_file(copies[0], card, reading)]
        assert contents[0].shape[:2] == (card.dates, card.channels), f"{name}: shape {contents[0].shape} from elsewhere"
        if contents[0].shape != sample.image.shape:
            return None  # the item is a part of the file
        assert any(_same(content, sample.image) for content in contents), (
            f"{name}: read by `{'outside' if own else 'reading'}`, it differs from read()"
        )
        if not own:
            _masks_come_back(opened, item, sample, copies[0], reading)
    return None


def _image_files(opened: Domain, item: Item) -> list[Path]:
    """The files that an item's image comes from; those that C libraries open are not seen, and are in its `ref`."""
    return sorted(opened_files(opened, item, False) or set(paths_in(item.ref)))


def _same(content: Image | Scene, image: Image) -> bool:
    if not isinstance(content, Scene):
        return content.dtype == image.dtype and np.array_equal(content, image)
    height, width = (min(side, WINDOW) for side in content.shape[2:])
    return np.array_equal(content.read(0, 0, height, width), image[..., :height, :width])


def _masks_come_back(opened: Domain, item: Item, sample: Sample, copy: Path, reading: Reading) -> None:
    """What is written for the copy of an item's file stands in for the item's mask, where that is such a file."""
    assert sample.mask is not None, f"{item.id}: a test item has no mask"
    valid = sample.mask != VOID
    colors = {value: info.color for value, info in zip(reading.values, opened.card.classes, strict=True)}
    labels = outside.own_axes(np.where(valid, sample.mask, 0), copy, reading)
    written = write_mask(labels, copy, copy.with_name("mask"), colors)
    masks = opened_files(opened, item, True) - opened_files(opened, item, False)
    if [mask.suffix for mask in masks] == [written.suffix]:
        with copied(opened.root) as root:
            replace(root / masks.pop().relative_to(opened.root), written.read_bytes())
            twin = type(opened)(root)
            again = twin.read(twin.index("test")[0]).mask
        assert again is not None and np.array_equal(again[valid], sample.mask[valid]), (
            f"{written.name}: read() finds other classes"
        )
