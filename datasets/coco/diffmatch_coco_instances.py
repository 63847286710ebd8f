"""Masks from an instances json: parsed once into two flat arrays, painted when read.

The json of the real training set is 450 MB and takes gigabytes once parsed. What is kept is a row of four numbers per
image and the text of its objects, in the engine's cache and memory-mapped: any number of processes share it, and a
look-up reads a few kilobytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rasters  # type: ignore[import-untyped]

from diffmatch.domain import VOID, Cache, InputError, Mask

PAINTING = "area-1"
"""Name of the recipe, part of the cache key. A change of the recipe changes the name and the card's version.

Crowd regions are void. Objects are painted over them by falling area in pixels, so that the smaller object lies on top;
objects of one area keep the json's order.
"""

Object = tuple[int, int, bool, Any]
"""Annotation id, class index (1..80), crowd, segmentation as the json has it."""


@dataclass(frozen=True)
class Instances:
    """The images of one json and their objects.

    Attributes:
        path: the json, for messages.
        rows: int64, (N, 4), by image id: id, height, width, and where the text of the image's objects ends.
        text: uint8, all objects' text.
    """

    path: Path
    rows: NDArray[np.int64]
    text: NDArray[np.uint8]

    def mask(self, row: int) -> Mask:
        """(H, W) class indices 0..80 and 255, painted by the recipe `PAINTING`.

        Raises:
            InputError: an outline or run lengths that do not describe a region of this image; json, image and
                annotation are named.
        """
        number, height, width, end = (int(n) for n in self.rows[row])
        start = int(self.rows[row - 1, 3]) if row else 0
        objects: list[Object] = json.loads(self.text[start:end].tobytes())
        return paint(objects, (height, width), f"{self.path}: image {number}")


def opened(path: Path, names: Sequence[str], store: Cache) -> Instances:
    """The instances of a json, from the cache if they are there.

    Args:
        names: the things in class order; the json's categories must be these.

    Raises:
        InputError: unreadable, not instances, other categories, or objects of unknown images or categories.
    """
    try:
        key = f"{path.stem}_{PAINTING}_{path.stat().st_mtime_ns:x}"
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({type(error).__name__}); copy or unpack it again") from error
    parse_once = cache(lambda: parse(path, names))
    rows = store.array(f"{key}_rows", lambda: parse_once()[0])
    return Instances(path, rows, store.array(f"{key}_text", lambda: parse_once()[1]))


def parse(path: Path, names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """`Instances.rows` and `Instances.text` of a json; everything but the shapes of the objects is checked here."""
    try:
        content = json.loads(path.read_bytes())
        images = sorted((int(i["id"]), int(i["height"]), int(i["width"])) for i in content["images"])
        classes = {int(c["id"]): i for i, c in enumerate(sorted(content["categories"], key=lambda c: int(c["id"])), 1)}
        categories = [str(c["name"]) for c in sorted(content["categories"], key=lambda c: int(c["id"]))]
        objects: dict[int, list[Object]] = {number: [] for number, _, _ in images}
        _same_names(path, categories, names)
        for a in content["annotations"]:
            number, category, owner = int(a["id"]), int(a["category_id"]), int(a["image_id"])
            if category not in classes:
                raise InputError(
                    f"{path}: annotation {number} has category_id {category}, which is none of its categories; repair "
                    "the json"
                )
            if owner not in objects:
                raise InputError(
                    f"{path}: annotation {number} belongs to image {owner}, which the json does not list; repair the "
                    "json"
                )
            objects[owner].append((number, classes[category], bool(a.get("iscrowd", 0)), a["segmentation"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not a readable instances json ({type(error).__name__}: {str(error)[:80]}); unpack "
            "instances_*2017.json again"
        ) from error
    if len(objects) != len(images):
        raise InputError(f"{path}: lists {len(images) - len(objects)} images twice; repair the json")
    texts = [json.dumps(objects[number], separators=(",", ":")).encode() for number, _, _ in images]
    ends = np.cumsum([len(t) for t in texts], dtype=np.int64)
    rows = np.array(images, np.int64).reshape(-1, 3)
    return np.column_stack([rows, ends]), np.frombuffer(b"".join(texts), np.uint8)


def _same_names(path: Path, categories: Sequence[str], names: Sequence[str]) -> None:
    if list(categories) == list(names):
        return
    i = next(
        (i for i, (a, b) in enumerate(zip(categories, names, strict=False)) if a != b), min(len(categories), len(names))
    )
    theirs, ours = (repr(n[i]) if i < len(n) else "missing" for n in (categories, names))
    raise InputError(
        f"{path}: {len(categories)} categories, number {i + 1} is {theirs} where {ours} should be; the classes are the "
        f"{len(names)} things of "
        "instances_*2017.json in the order of their ids (not stuff_*.json or panoptic_*.json)"
    )


def paint(objects: Sequence[Object], size: tuple[int, int], where: str) -> Mask:
    """(H, W): class indices, 0 where nothing is, 255 where only a crowd region is.

    Args:
        where: json and image, for messages.
    """
    mask: Mask = np.zeros(size, np.uint8)
    things = []
    for number, index, crowd, segmentation in objects:
        try:
            region = region_of(segmentation, size)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise InputError(
                f"{where}, annotation {number}: {error or type(error).__name__}; repair or download the json again"
            ) from error
        if crowd:
            mask[region] = VOID
        else:
            things.append((int(np.count_nonzero(region)), index, region))
    for _, index, region in sorted(things, key=lambda thing: -thing[0]):
        mask[region] = index
    return mask


def region_of(segmentation: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) of polygons (lists of x, y) or of run lengths, plain or compressed.

    An outline of fewer than three points encloses nothing.

    Raises:
        ValueError: it does not lie in an image of this size.
    """
    height, width = size
    if isinstance(segmentation, list):
        outlines = [outline for outline in segmentation if len(outline) >= 6]
        for outline in outlines:
            points = np.asarray(outline, np.float64)
            if points.ndim != 1 or len(points) % 2 or not (np.abs(points) <= 2 * max(size)).all():
                raise ValueError(f"an outline that is no list of x, y in an image of {width} x {height}")
        drawn = (
            rasters.decode(rasters.merge(rasters.frPyObjects(outlines, height, width)))
            if outlines
            else np.zeros(size, np.uint8)
        )
        return np.asarray(drawn, np.bool_)
    counts = segmentation["counts"]
    runs = np.asarray(run_lengths(counts) if isinstance(counts, str) else counts, np.int64)
    if list(segmentation["size"]) != [height, width] or (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(
            f"run lengths of {runs.sum()} pixels, size {segmentation['size']}, in an image of {width} x {height}"
        )
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def run_lengths(text: str) -> list[int]:
    """Run lengths from COCO's compressed form.

    Five bits a character from '0' on, a sixth says that more follow. From the fourth run on, what is written is the
    difference to the run two before. pycocotools decodes the form too; here, lengths that do not fit the image become
    an error that names the annotation.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise ValueError(f"compressed run lengths with the character {character!r}")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            value -= (1 << shift) if code & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("compressed run lengths that end early")
    return runs
