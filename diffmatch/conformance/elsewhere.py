"""The checks that files are read and predicted without their data set as with it."""

from __future__ import annotations

import shutil
import tempfile
from itertools import permutations
from pathlib import Path

import numpy as np
import torch

from diffmatch.conformance.tampering import copied, opened_files, replace
from diffmatch.conformance.tiny import tiny
from diffmatch.domain import VOID, Card, Domain, Image, Item, Reading, Sample, Scene, paths_in
from diffmatch.learning.labelling import in_mode
from diffmatch.model import source
from diffmatch.model.files import write_labels
from diffmatch.model.look import Look
from diffmatch.model.manifest import Manifest
from diffmatch.model.model import Input, load
from diffmatch.readers import outside
from diffmatch.scoring.inference import predict_item

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
    own = [path for path in _image_files(opened, item) if path.name.lower().endswith(domain.endings)]
    with tempfile.TemporaryDirectory() as folder:
        copies = _copies(own or _read_by(reading, opened, item), Path(folder))
        if len(copies) != (1 if own else card.dates):
            return f"an item is no file of its own that is read from elsewhere ({len(copies)} files fit)"
        sample, name = opened.read(item), copies[0].name
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


def check_model(domain: type[Domain], root: Path) -> str | None:
    """A model of the domain, exported and loaded without the data, predicts a test item's files as the item itself."""
    opened, split, method, settings = tiny(domain, root)
    card, item = opened.card, split.test[0]
    manifest = Manifest(
        dataset=card.name,
        method="diffmatch",
        version=method.version,
        run="0-00000000",
        checkpoint="last",
        step=0,
        card=Card.model_validate(card.model_dump()),
        settings=settings.model_dump(mode="json"),
        reading=opened.reading,
        pixels=method.statistics.pixels,
        labelled=len(split.labelled),
        unlabelled=len(split.unlabelled),
        fabricated=False,
    )
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        copies = _copies(_read_by(opened.reading, domain(root), item), Path(folder))  # `opened` reads from its cache
        if len(copies) != card.dates:
            return f"an item is no file of its own that is read from elsewhere ({len(copies)} files fit)"
        source.write(Path(folder) / "model.safetensors", manifest, method.state_dict())
        model = load(Path(folder) / "model.safetensors")
        inputs: list[Input] = [*permutations(copies, 2)] if card.dates == 2 else [*copies]
        sample = opened.read(item)
        found = [model.predict_opened(model.open(one)) for one in inputs]
        if found[0].labels.shape != sample.image.shape[2:]:
            return None  # the item is a part of the file
        named = Item(model.stem(copies[0]), item.case)
        with in_mode(method, "eval"):
            wanted = predict_item(
                method, named, sample.image, settings.data, card.protocol(), settings.eval.batch, torch.device("cpu")
            )
        assert any(np.array_equal(one.probabilities, wanted.probabilities) for one in found), (
            f"{copies[0].name}: a loaded model predicts it otherwise than the set's own item"
        )
    return None


def _read_by(reading: Reading, opened: Domain, item: Item) -> list[Path]:
    """The files of an item's image that its recorded reading reads."""
    return [path for path in _image_files(opened, item) if path.name.lower().endswith(outside.endings_of(reading))]


def _copies(files: list[Path], folder: Path) -> list[Path]:
    """Copies of the files, each in a folder of its own."""
    places = [folder / str(number) for number in range(len(files))]
    for place in places:
        place.mkdir()
    return [Path(shutil.copy(path, place)) for path, place in zip(files, places, strict=True)]


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
    labels = outside.own_axes(np.where(valid, sample.mask, 0), copy, reading)
    written = write_labels(labels, copy, copy.with_name("mask"), Look.of(opened.card, reading.values))
    masks = opened_files(opened, item, True) - opened_files(opened, item, False)
    if [mask.suffix for mask in masks] == [written.suffix]:
        with copied(opened.root) as root:
            replace(root / masks.pop().relative_to(opened.root), written.read_bytes())
            twin = type(opened)(root)
            again = twin.read(twin.index("test")[0]).mask
        assert again is not None and np.array_equal(again[valid], sample.mask[valid]), (
            f"{written.name}: read() finds other classes"
        )
